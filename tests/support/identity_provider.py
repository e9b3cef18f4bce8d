"""A small identity provider on the loopback: discovery, signing keys, tokens as it would sign them, and a sign-in."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

AUDIENCE, CLIENT = "mindsight-lab", "mindsight-page"
DISCOVERY = "/.well-known/openid-configuration"


class Provider:
    """documents : path → what is served there; n_asked : how often its keys were asked for; n_answered : or anything"""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.n_asked = self.n_answered = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/authorize?"):
                    self.send_response(302)
                    self.send_header("Location", provider.signed_in(self.path))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                provider.n_asked += self.path == "/jwks"
                found = provider.documents.get(self.path)
                content = json.dumps(found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                provider.n_answered += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, answer = provider.exchanged(dict(parse_qsl(body)))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.documents[DISCOVERY] = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
        }
        self.secret, self.roles = "", ["experimenter"]
        self.begun: dict[str, dict[str, str]] = {}
        self.rotate("one")

    def rotate(self, kid: str) -> None:
        """From now on it signs with a new key, and publishes that one alone."""
        self.kid, self.key = kid, ec.generate_private_key(ec.SECP256R1())
        public = json.loads(ECAlgorithm.to_jwk(self.key.public_key()))
        self.documents["/jwks"] = {"keys": [public | {"kid": kid, "use": "sig", "alg": "ES256"}]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Of a token that is right; None takes one away."""
        now = time.time()
        right = {"iss": self.url, "aud": AUDIENCE, "sub": "u-17", "iat": now, "exp": now + 300, "roles": ["viewer"]}
        return {name: value for name, value in {**right, **changed}.items() if value is not None}

    def signed_in(self, asked_for: str) -> str:
        """Where the browser goes once a person has signed in: back, with a code."""
        asked = dict(parse_qsl(urlsplit(asked_for).query))
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        assert (asked["code_challenge_method"], "openid" in asked["scope"].split()) == ("S256", True)
        code = f"code-{len(self.begun)}"
        self.begun[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def exchanged(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """A code, once, by who began with it (RFC 7636), for a token."""
        asked = self.begun.pop(form["code"], None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != proven or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if (form["client_id"], form.get("client_secret", "")) != (CLIENT, self.secret):
            return 401, {"error": "invalid_client"}
        return 200, {"token_type": "Bearer", "access_token": self.token(roles=self.roles)}

    def token(self, **changed: Any) -> str:
        return jwt.encode(self.claims(**changed), self.key, "ES256", headers={"kid": self.kid})


@contextmanager
def identity_provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()
    thread.join()
