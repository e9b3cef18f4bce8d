"""Signing in with a browser at the site's identity provider: the code flow of OpenID Connect, with PKCE.

What comes of it is a key of Mindsight's own: its role is that of the provider's token, it ends by itself, and an
administrator sees and revokes it as any other. The token is kept nowhere, and no request of the page waits for the
provider again.

References: OpenID Connect Core 1.0, section 3.1; RFC 7636 (PKCE); RFC 9700 (what goes wrong with OAuth).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from mindsight.errors import NotAllowed, ServiceUnavailable
from mindsight.settings import Settings
from service.keys import Key, KeyStore
from service.oidc import FETCH_S, Issuer, read_json

HOURS = 12.0  # a visit, and what is done after it on the same day
AT_ONCE = 4  # exchanges of codes: each may wait for the provider


@dataclass(frozen=True)
class Attempt:
    """What the browser brings back, in a cookie that no script and no other site reads.

    state : also in the address that it comes back with: who sends a person here with a code of his own has none
    verifier : without it a code that was read on the way is worth nothing
    """

    state: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(48))

    @classmethod
    def read(cls, cookie: str) -> Attempt | None:
        state, _, verifier = cookie.partition(".")
        return cls(state, verifier) if state and verifier else None

    def __str__(self) -> str:
        return f"{self.state}.{self.verifier}"

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class SignIn:
    """For one client that is registered at the issuer, public (no secret) or confidential."""

    def __init__(self, settings: Settings, issuer: Issuer, keys: KeyStore) -> None:
        self._client, self._secret, self._scope = settings.oidc_client, settings.oidc_secret, settings.oidc_scope
        self._issuer, self._keys = issuer, keys
        self._exchanging = threading.BoundedSemaphore(AT_ONCE)

    def address(self, attempt: Attempt, back: str) -> str:
        """Where the browser goes to sign in. back : where it comes back to. Raises ServiceUnavailable."""
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": back,
            "scope": self._scope,
            "state": attempt.state,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        at = self._issuer.endpoint("authorization_endpoint")
        return f"{at}{'&' if '?' in at else '?'}{urlencode(asked)}"

    def finish(self, attempt: Attempt | None, state: str, code: str, back: str) -> tuple[Key, str, Key]:
        """A new key of ours: what is stored of it, itself, and the token that it was made for, as a key.

        Raises NotAllowed for what this browser has not begun, or the issuer does not accept; ServiceUnavailable.
        """
        if attempt is None or not code or not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise NotAllowed("expected a sign-in that began in this browser: sign in again", code="auth.sign_in")
        signed_in = self._issuer.check(self._token(attempt, code, back))
        key, text = self._keys.mint(signed_in.role, f"signed in: {signed_in.id}", ttl_s=HOURS * 3600.0)
        return key, text, signed_in

    def _token(self, attempt: Attempt, code: str, back: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self._client,
            "code_verifier": attempt.verifier,
        }
        if self._secret:
            form["client_secret"] = self._secret
        if not self._exchanging.acquire(blocking=False):
            raise ServiceUnavailable("expected fewer sign-ins at once: try again in a moment", code="auth.issuer")
        try:
            with httpx.Client(timeout=FETCH_S, follow_redirects=False) as client:
                answer = read_json(client, self._issuer.endpoint("token_endpoint"), form)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceUnavailable(
                f"expected the identity provider's answer, got none ({type(error).__name__}): try again",
                code="auth.issuer",
            ) from None
        except (ValueError, TypeError, RecursionError) as error:
            raise NotAllowed(
                f"the identity provider did not accept the sign-in ({error}): sign in again", code="auth.sign_in"
            ) from None
        finally:
            self._exchanging.release()
        token = answer.get("access_token")
        if not isinstance(token, str):
            raise NotAllowed("expected an access token, got none: sign in again", code="auth.sign_in")
        return token
