"""A small identity provider on the loopback: discovery, signing keys, and tokens as it would sign them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

AUDIENCE = "mindsight-lab"
DISCOVERY = "/.well-known/openid-configuration"


class Provider:
    """documents : path → what is served there; n_asked : how often its keys were asked for; n_answered : or anything"""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.n_asked = self.n_answered = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.n_asked += self.path == "/jwks"
                found = provider.documents.get(self.path)
                content = json.dumps(found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                provider.n_answered += 1

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.documents[DISCOVERY] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
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
