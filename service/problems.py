"""Every error as one shape: application/problem+json (RFC 9457), from one place.

Knows nothing of what went wrong. A problem never holds a path of the server, what was sent, or who sent it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute

from mindsight.errors import (
    BadRequest,
    BadVolume,
    BusUnavailable,
    Conflict,
    DeadlineExceeded,
    Diverged,
    LeaseLost,
    MindsightError,
    ModelMismatch,
    NotAllowed,
    NotFound,
    NotInstalled,
    OutOfOrder,
    ServiceUnavailable,
    StorageFull,
    StorageUnavailable,
)
from service.auth import Forbidden
from service.rates import TooMany
from service.transfer import TooLarge, TooSlow

_log = logging.getLogger("mindsight.gateway")
STATUS: dict[type[MindsightError], HTTPStatus] = {
    BadRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadVolume: HTTPStatus.UNPROCESSABLE_ENTITY,
    ModelMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotAllowed: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    Conflict: HTTPStatus.CONFLICT,
    Diverged: HTTPStatus.CONFLICT,
    LeaseLost: HTTPStatus.CONFLICT,
    OutOfOrder: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotInstalled: HTTPStatus.NOT_IMPLEMENTED,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    BusUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ServiceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    MindsightError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_HEADERS: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "1"},
}
_SAFE_DETAILS = {
    422: "expected a body of JSON, got something that cannot be read as JSON; send what /v1/openapi.json describes",
    404: "there is nothing at this address; the interface is described at /v1/openapi.json",
    405: "this address does not support this method; the interface is described at /v1/openapi.json",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="urn:mindsight: and the code")
    title: str
    status: int
    detail: str = Field(description="for a person: what was expected, what came, and what to do")
    code: str = Field(description="for a program; stable")
    details: dict[str, int | float | str | None] = Field(default={}, description="numbers and names for a program")


def problem_response(
    status: int, code: str, detail: str, details: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response:
    problem = Problem(
        type=f"urn:mindsight:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        details=details or {},
    )
    return Response(
        problem.model_dump_json(), status_code=status, media_type="application/problem+json", headers=headers
    )


def status_of(error: MindsightError) -> HTTPStatus:
    """The status of the error's class, or of the nearest class that it comes from."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def response_of(error: MindsightError) -> Response:
    status = status_of(error)
    return problem_response(int(status), error.code, str(error), error.details, _HEADERS.get(status))


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI description of a route: its problems, and those that every route has."""
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": schema}
        for status in sorted({*statuses, 401, 403, 422, 429, 500, 503})
    }


def install(app: FastAPI) -> None:
    """Make every error of the app a problem, also one that comes before a WebSocket's handshake."""

    async def answer(connection: Request | WebSocket, response: Response) -> Response | None:
        if isinstance(connection, WebSocket):
            await connection.send_denial_response(response)
            return None
        return response

    async def mindsight_error(connection: Request | WebSocket, error: Exception) -> Response | None:
        assert isinstance(error, MindsightError)
        return await answer(connection, response_of(error))

    async def validation_error(connection: Request | WebSocket, error: Exception) -> Response | None:
        assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
        detail = explain_validation(error.errors())
        return await answer(connection, problem_response(422, "request.invalid", detail))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, MindsightError):  # FastAPI wraps what happens while a body is read
            return response_of(error.__cause__)
        status = error.status_code
        if status == HTTPStatus.BAD_REQUEST:  # FastAPI's, for a body that it cannot read
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        detail = _SAFE_DETAILS.get(status, HTTPStatus(status).phrase.lower())
        code = {404: "not_found", 405: "request.method"}.get(status, "request.invalid")
        headers = dict(error.headers or {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return problem_response(status, code, detail, headers=headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("unexpected error in %s", request.scope.get("path"), exc_info=error)
        return problem_response(500, "mindsight.error", "the service failed unexpectedly; see its log")

    app.add_exception_handler(MindsightError, mindsight_error)  # type: ignore[arg-type]  # None is for WebSockets
    app.add_exception_handler(RequestValidationError, validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(WebSocketRequestValidationError, validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


def _methods_at(request: Request) -> set[str]:
    """All methods of the address, whose routes are several; one without a parameter goes before those with."""
    path, found = request.url.path, list(routes_of(request.app.routes))
    there = [route for route in found if route.path == path] or [r for r in found if r.path_regex.fullmatch(path)]
    return {method for route in there for method in route.methods or ()}


def routes_of(routes: Sequence[BaseRoute]) -> Iterator[APIRoute]:
    """Every route of REST; FastAPI keeps an included router as one entry, so look inside."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif included := getattr(route, "original_router", None):
            yield from routes_of(included.routes)


def explain_validation(errors: Any) -> str:
    """Where the request is wrong and how, without repeating what was sent."""
    parts = [f"{'.'.join(str(step) for step in error['loc'])}: {error['msg']}" for error in list(errors)[:5]]
    return json.dumps("; ".join(parts), ensure_ascii=False)[1:-1]
