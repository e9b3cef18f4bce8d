"""Tokens of an identity provider, which runs here: what is a key, what is refused, what its silence does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.testclient import TestClient

from mindsight.errors import BadRequest, MindsightError, NotAllowed, ServiceUnavailable
from mindsight.settings import Settings
from service import oidc
from service.app import create_app
from service.keys import KeyStore
from service.oidc import Issuer
from support.identity_provider import AUDIENCE, DISCOVERY, Provider, identity_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with identity_provider() as provider:
        yield provider


def settings(provider: Provider, tmp_path: Path, **changed: Any) -> Settings:
    given = {"oidc_issuer": provider.url, "oidc_audience": AUDIENCE}
    return Settings(data_dir=tmp_path, **{**given, **changed})


def until_known(issuer: Issuer, token: str) -> None:
    """Waits until the issuer has fetched the key of a token."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            issuer.check(token)
        except MindsightError:
            time.sleep(0.02)
        else:
            return
    issuer.check(token)


@pytest.fixture(scope="module")
def issuer(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    made = Issuer(settings(provider, tmp_path_factory.mktemp("oidc")))
    made.start()
    until_known(made, provider.token())
    yield made
    made.stop()


def test_a_token_is_a_key_with_the_role_of_its_claim(issuer: Issuer, provider: Provider) -> None:
    key = issuer.check(provider.token(roles=["staff", "viewer", "experimenter"]))
    assert key.role == "experimenter"  # of several the one that may most
    assert "admin" not in key.scopes
    assert key.id == issuer.check(provider.token()).id  # of the same person
    assert key.id != issuer.check(provider.token(sub="u-18")).id
    assert "u-17" not in key.model_dump_json()
    assert issuer.check(provider.token(roles="viewer")).role == "viewer"
    assert issuer.check(provider.token(aud=["other", AUDIENCE])).role == "viewer"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"exp": time.time() - 120}, "auth.expired"),
        ({"aud": "another-service"}, "auth.key"),
        ({"iss": "https://elsewhere.example"}, "auth.key"),
        ({"nbf": time.time() + 86400}, "auth.key"),
        ({"iat": time.time() + 86400}, "auth.key"),
        ({"exp": None}, "auth.key"),
        ({"sub": None}, "auth.key"),
        ({"roles": None}, "auth.role"),
        ({"roles": ["Admin"]}, "auth.role"),
        ({"roles": {"admin": True}}, "auth.role"),
        ({"roles": [["admin"]]}, "auth.role"),
    ],
)
def test_what_is_not_right_is_refused_in_one_line(
    issuer: Issuer, provider: Provider, changed: dict[str, Any], code: str
) -> None:
    with pytest.raises(NotAllowed) as refused:
        issuer.check(provider.token(**changed))
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


def test_who_clocks_differ_by_less_than_a_minute_agree(issuer: Issuer, provider: Provider) -> None:
    assert issuer.check(provider.token(exp=time.time() - 20, iat=time.time() + 20))


def test_a_signature_is_the_issuers_and_asymmetric(issuer: Issuer, provider: Provider) -> None:
    public = provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims, named = provider.claims(roles=["admin"]), {"kid": provider.kid}
    head, body, signature = jwt.encode(claims, provider.key, "ES256", headers=named).split(".")
    _, viewer, _ = provider.token(sub="other").split(".")
    hidden = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": provider.kid}).encode())
    with_secret = jwt.get_algorithm_by_name("HS256")
    message = hidden + b"." + body.encode()
    forged = message + b"." + jwt.utils.base64url_encode(_hmac(public, message))
    assert with_secret is not None
    for token in (
        jwt.encode(claims, None, "none", headers=named),
        forged.decode(),  # HS256 with the public key as its secret
        jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=named),
        jwt.encode(claims, provider.key, "ES256", headers={"kid": "another"}),
        f"{head}.{viewer}.{signature}",
        f"{head}.{body}.",
        "a.b.c",
        "x" * 100_000,
        "",
    ):
        with pytest.raises(NotAllowed):
            issuer.check(token)


def _hmac(secret: bytes, message: bytes) -> bytes:
    import hashlib
    import hmac

    return hmac.new(secret, message, hashlib.sha256).digest()


def test_roles_have_the_sites_own_names(provider: Provider, tmp_path: Path) -> None:
    given = {"oidc_claim": "realm_access.roles", "oidc_roles": "mri-staff=experimenter, mri-guests = viewer"}
    made = Issuer(settings(provider, tmp_path, **given))
    made.start()
    until_known(made, provider.token(realm_access={"roles": ["mri-staff"]}))
    assert made.check(provider.token(realm_access={"roles": ["mri-staff", "mri-guests"]})).role == "experimenter"
    with pytest.raises(NotAllowed, match=r"one of mri-staff, mri-guests in realm_access\.roles"):
        made.check(provider.token(realm_access={"roles": ["admin"]}))
    made.stop()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"oidc_audience": ""}, "MINDSIGHT_OIDC_AUDIENCE"),
        ({"oidc_issuer": "http://idp.example"}, "MINDSIGHT_OIDC_ISSUER"),
        ({"oidc_roles": "staff=boss"}, "MINDSIGHT_OIDC_ROLES"),
        ({"oidc_roles": "admin"}, "MINDSIGHT_OIDC_ROLES"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_the_start(
    provider: Provider, tmp_path: Path, changed: dict[str, str], named: str
) -> None:
    with pytest.raises(BadRequest, match=named):
        create_app(settings(provider, tmp_path, **changed))


def test_a_new_signing_key_is_fetched_and_a_silent_issuer_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "AGAIN_S", 0.05)
    with identity_provider() as provider:
        made = Issuer(settings(provider, tmp_path))
        with pytest.raises(ServiceUnavailable, match="have not been fetched yet"):
            made.check(provider.token())
        made.start()
        until_known(made, provider.token())
        provider.rotate("two")
        until_known(made, provider.token())
        monkeypatch.setattr(oidc, "AGAIN_S", 3600.0)
        n, token = provider.n_asked, provider.token()
        for _ in range(200):  # made-up names of keys do not make it ask without end
            with pytest.raises(NotAllowed):
                made.check(jwt.encode(provider.claims(), provider.key, "ES256", headers={"kid": "x"}))
        assert provider.n_asked - n <= 2
        provider.documents.clear()
        with pytest.raises(NotAllowed):
            made.check(jwt.encode(provider.claims(), provider.key, "ES256", headers={"kid": "x"}))
        assert made.check(token).role == "viewer"
        made.stop()


def test_an_issuer_that_answers_nonsense_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "AGAIN_S", 0.02)
    with identity_provider() as provider:
        right = dict(provider.documents)
        symmetric = {"kty": "oct", "k": "AA", "kid": provider.kid}
        in_the_clear = {"issuer": provider.url, "jwks_uri": "http://elsewhere.example/jwks"}
        wrong = [("/jwks", held) for held in ([], {"keys": []}, {"keys": [1]}, {"keys": [symmetric]}, "x" * 400_000)]
        wrong += [(DISCOVERY, held) for held in ([], {"issuer": "https://elsewhere.example"}, in_the_clear)]
        provider.documents.clear()
        made = Issuer(settings(provider, tmp_path))
        made.start()
        for path, held in wrong:
            provider.documents.update({**right, path: held})
            n, deadline = provider.n_answered, time.monotonic() + 60.0
            while provider.n_answered < n + 4 and time.monotonic() < deadline:  # each fetch asks once or twice
                time.sleep(0.01)
            with pytest.raises(ServiceUnavailable, match="could not be fetched"):
                made.check(provider.token())
        provider.documents.update(right)
        until_known(made, provider.token())
        made.stop()


def test_the_gateway_takes_both_and_asks_each_for_its_scope(provider: Provider, tmp_path: Path) -> None:
    app = create_app(settings(provider, tmp_path))
    issuer = app.state.gateway.issuer
    issuer.start()
    until_known(issuer, provider.token())
    _, text = KeyStore(tmp_path).mint("admin")
    client = TestClient(app, base_url="http://127.0.0.1")

    def own(token: str) -> tuple[int, Any]:
        answer = client.get("/v1/keys/own", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.json().get("role") or answer.json()["code"]

    assert own(text) == (200, "admin")
    assert own(provider.token(roles=["experimenter"])) == (200, "experimenter")
    assert own(provider.token(aud="other")) == (401, "auth.key")
    headers = {"Authorization": f"Bearer {provider.token()}"}
    assert client.get("/v1/keys", headers=headers).status_code == 403
    ticket = client.post("/v1/ws-tickets", headers=headers).json()["ticket"]
    assert app.state.gateway.keys.redeem(ticket).role == "viewer"
    issuer.stop()
