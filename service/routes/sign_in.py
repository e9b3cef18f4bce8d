"""Pages' way to a key where the site has an identity provider: there, and back with what it says.

These addresses are for browsers: they redirect, also where something is refused, and the page says why.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Cookie, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse

from mindsight.errors import MindsightError, NotFound
from service.audit import ABOUT, CALLER
from service.context import Gateway, GatewayDependency
from service.problems import responses
from service.rates import TooMany
from service.sign_in import Attempt, SignIn

router = APIRouter(prefix="/v1/sign-in", tags=["service"])

COOKIE, COOKIE_S = "mindsight_sign_in", 600
MAX_CODE = 2048  # letters of what comes back


@router.get("", status_code=303, response_class=RedirectResponse, responses=responses(404))
def begin(request: Request, gateway: GatewayDependency) -> RedirectResponse:
    """For browsers: to the site's identity provider."""
    sign_in, attempt = _sign_in(gateway), Attempt.new()
    try:
        response = _redirected(sign_in.address(attempt, _back(request)))
    except MindsightError as error:
        return _refused(error)
    response.set_cookie(
        COOKIE,
        str(attempt),
        max_age=COOKIE_S,
        path=router.prefix,
        httponly=True,
        samesite="lax",
        secure=_scheme(request) == "https",
    )
    return response


@router.get("/callback", status_code=303, response_class=RedirectResponse, responses=responses(404))
def finish(
    request: Request,
    gateway: GatewayDependency,
    state: Annotated[str, Query(max_length=MAX_CODE, description="as it was sent to the identity provider")] = "",
    code: Annotated[str, Query(max_length=MAX_CODE, description="of the identity provider, for one token")] = "",
    mindsight_sign_in: Annotated[
        str, Cookie(max_length=MAX_CODE, description="what this browser began; no script reads it")
    ] = "",
) -> RedirectResponse:
    """For browsers: back from the identity provider to the page, with a key of its own, or with why there is none."""
    sign_in = _sign_in(gateway)
    try:
        key, text, signed_in = sign_in.finish(Attempt.read(mindsight_sign_in), state, code, _back(request))
    except MindsightError as error:
        if not gateway.wrong_keys.take(request.client.host if request.client else ""):
            raise TooMany("expected a sign-in, got many wrong ones from this address: wait before the next") from None
        return _refused(error)
    request.scope[CALLER], request.scope[ABOUT] = key, {"signed_in": signed_in.id}
    response = _redirected(f"/#{urlencode({'key': text})}")
    response.delete_cookie(COOKIE, path=router.prefix)
    return response


def _sign_in(gateway: Gateway) -> SignIn:
    if gateway.sign_in is None:
        raise NotFound("this service has no sign-in: it needs MINDSIGHT_OIDC_CLIENT, or a key", code="auth.no_sign_in")
    return gateway.sign_in


def _back(request: Request) -> str:
    """This service's address as the browser has it: its host was checked before."""
    return f"{_scheme(request)}://{request.url.netloc}{router.prefix}/callback"


def _scheme(request: Request) -> str:
    return "https" if request.app.state.gateway.settings.behind_proxy else request.url.scheme


def _refused(error: MindsightError) -> RedirectResponse:
    """The page has words for each code; an address with words of its own could say anything."""
    return _redirected(f"/#{urlencode({'refused': error.code})}")


def _redirected(url: str) -> RedirectResponse:
    return RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})
