"""Access tokens of a site's own identity provider (OpenID Connect), beside Mindsight's keys.

A bearer token that the issuer has signed for this service is a key until it expires; its role is a claim's. The
issuer's signing keys are fetched beside the requests, never within one, with a deadline and a bound, and stay in force
while the issuer does not answer. Of a token's subject only a digest is kept, which the audit log names.

References: OpenID Connect Discovery 1.0; RFC 7519 (JWT) and 8725 (what goes wrong with it: algorithms are a list of our
own, all of them asymmetric, and a key of another kind is not used).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from mindsight.errors import BadRequest, NotAllowed, NotInstalled, ServiceUnavailable
from mindsight.files.digest import sha256_of
from mindsight.settings import Settings
from service.keys import OF_ISSUER, ROLES, Key, Role

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
KINDS = ("RSA", "EC", "OKP")  # of keys, in their own words
LEEWAY_S = 60.0  # by which two clocks may differ
MAX_TOKEN, MAX_TEXT = 16 * 1024, 200
FETCH_S, MAX_BYTES = 5.0, 256 * 1024
FRESH_S, AGAIN_S = 600.0, 10.0  # between two fetches: usually; where one failed, or a token names an unknown key
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ORDER = tuple(ROLES)  # of several roles the one that may most: it comes first


class Issuer:
    """The issuer that the settings name. ``start`` fetches its keys, and goes on doing so until ``stop``.

    Raises BadRequest (``settings.invalid``) for settings that do not fit each other, NotInstalled without
    ``mindsight[oidc]``.
    """

    def __init__(self, settings: Settings) -> None:
        self._jwt = _library()
        self._issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        self._claim, self._roles = settings.oidc_claim.split("."), _roles(settings.oidc_roles)
        if not self._audience:
            raise _wrong("MINDSIGHT_OIDC_AUDIENCE", "the name of this service at the issuer", "none")
        _require_safe(self._issuer, "MINDSIGHT_OIDC_ISSUER")
        self._keys: dict[str, Any] = {}
        self._described: dict[str, Any] = {}
        self._problem = "they have not been fetched yet"
        self._wanted, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="oidc", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._wanted.set()

    def check(self, token: str) -> Key:
        """The token as a key. Raises NotAllowed, ServiceUnavailable (``auth.issuer``) while no signing key is known."""
        jwt = self._jwt
        try:
            if len(token) > MAX_TOKEN:
                raise jwt.InvalidTokenError(f"longer than {MAX_TOKEN} bytes")
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise jwt.InvalidAlgorithmError(f"not signed by {', '.join(ALGORITHMS)}")
            claims = jwt.decode(
                token,
                self._key_of(header),
                algorithms=[header["alg"]],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise NotAllowed(
                "expected a valid token, got one that has expired; sign in again", code="auth.expired"
            ) from None
        except jwt.PyJWTError as error:
            raise NotAllowed(f"expected a token of {self._issuer} for this service: {error}", code="auth.key") from None
        return Key(
            id=OF_ISSUER + sha256_of(f"{self._issuer} {claims['sub']}".encode())[:12],
            role=self._role_of(claims),
            sha256="",
            created_t=float(claims["iat"]),
            note="signed in at the identity provider",
            expires_t=float(claims["exp"]) + LEEWAY_S,
        )

    def endpoint(self, name: str) -> str:
        """An address that the issuer's discovery document names. Raises ServiceUnavailable (``auth.issuer``)."""
        found = self._described.get(name)
        if not isinstance(found, str):
            self._wanted.set()
            problem = f"{name} is not in its discovery document" if self._described else self._problem
            raise ServiceUnavailable(
                f"expected the address where {self._issuer} signs people in: {problem}; use a key meanwhile",
                code="auth.issuer",
            )
        _require_safe(found, name)
        return found

    def _key_of(self, header: Mapping[str, Any]) -> Any:
        """The issuer's key that the token names; its only one where none is named."""
        keys, kid = self._keys, header.get("kid")
        if not keys:
            self._wanted.set()
            raise ServiceUnavailable(
                f"expected the signing keys of {self._issuer}: {self._problem}; Mindsight's own keys work meanwhile",
                code="auth.issuer",
            )
        found = keys.get(kid) if kid is not None else (next(iter(keys.values())) if len(keys) == 1 else None)
        if found is None:
            self._wanted.set()  # the issuer may have a new one
            raise self._jwt.InvalidKeyError("its signing key is not known here; if it is new, try again in a minute")
        return found

    def _role_of(self, claims: Mapping[str, Any]) -> Role:
        held: Any = claims
        for name in self._claim:
            held = held.get(name) if isinstance(held, Mapping) else None
        values = held if isinstance(held, list) else str(held or "").split()
        roles = {self._roles[value] for value in values if isinstance(value, str) and value in self._roles}
        if not roles:
            expected = f"one of {', '.join(self._roles)} in {'.'.join(self._claim)}"
            raise NotAllowed(f"expected a token with {expected}, got one without: ask for a role", code="auth.role")
        return min(roles, key=_ORDER.index)

    def _follow(self) -> None:
        """Fetch the keys now, then as often as they may have changed."""
        with httpx.Client(timeout=FETCH_S, follow_redirects=False) as client:
            while not self._stopped.is_set():
                self._wanted.clear()
                try:
                    self._keys = self._fetched(client)
                    wait_s = FRESH_S
                except Exception as error:  # whatever it answers: the keys that are known stay, and it is asked again
                    self._report(f"they could not be fetched ({type(error).__name__}: {error})"[:MAX_TEXT])
                    wait_s = AGAIN_S
                self._stopped.wait(AGAIN_S)  # however often a key is asked for that is unknown
                self._wanted.wait(wait_s - AGAIN_S)

    def _report(self, problem: str) -> None:
        """In the gateway's log, once for each."""
        if problem != self._problem:
            self._problem = problem
            print(f"mindsight gateway: signing keys of {self._issuer}: {problem}", file=sys.stderr, flush=True)

    def _fetched(self, client: httpx.Client) -> dict[str, Any]:
        described = read_json(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != self._issuer:
            raise ValueError("its discovery document is of another issuer")
        _require_safe(described["jwks_uri"], "jwks_uri")
        held = read_json(client, described["jwks_uri"])["keys"]
        keys = {}
        for one in held:
            if one.get("use", "sig") == "sig" and one.get("kty") in KINDS:
                with suppress(self._jwt.PyJWTError):  # of a curve that PyJWT does not know
                    keys[str(one.get("kid", ""))] = self._jwt.PyJWK(one)
        if not keys:
            raise ValueError("it has no signing key of a kind that is accepted")
        self._described = described
        return keys


def read_json(client: httpx.Client, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A document of at most MAX_BYTES, within FETCH_S; the answer to a form, if there is one. Raises ValueError."""
    until, content = time.monotonic() + FETCH_S, b""
    with client.stream("GET" if form is None else "POST", url, data=form) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"status {answer.status_code} at {url}")
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > MAX_BYTES or time.monotonic() > until:
                raise ValueError(f"too much, or too slow, at {url}")
    return dict(json.loads(content))


def _roles(text: str) -> dict[str, Role]:
    """Value of the claim → role, of ``value=role,value=role``; empty: the roles' own names."""
    if not text:
        return {role: role for role in ROLES}
    found: dict[str, Role] = {}
    for pair in text.split(","):
        value, _, name = (part.strip() for part in pair.rpartition("="))
        role = next((role for role in ROLES if role == name), None)
        if role is None or not value:
            raise _wrong("MINDSIGHT_OIDC_ROLES", f"value=role,... with roles of {', '.join(ROLES)}", repr(pair))
        found[value] = role
    return found


def _require_safe(url: str, name: str) -> None:
    """Keys that come in the clear could be anybody's."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong(name, "an https:// address", repr(url)) from None
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise _wrong(name, "an https:// address", repr(url))


def _wrong(name: str, expected: str, got: str) -> BadRequest:
    return BadRequest(f"expected {expected} in {name}, got {got}: correct it or unset it", code="settings.invalid")


def _library() -> Any:
    try:
        import jwt
    except ModuleNotFoundError:
        raise NotInstalled('MINDSIGHT_OIDC_ISSUER needs PyJWT: pip install "mindsight[oidc]"') from None
    return jwt
