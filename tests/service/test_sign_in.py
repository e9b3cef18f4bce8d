"""Signing in at the site's identity provider: what a browser goes through, what comes of it, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from mindsight.errors import BadRequest, MindsightError
from mindsight.settings import Settings
from service.app import create_app
from service.context import WRONG_KEY_BURST
from service.rates import TooMany
from support.identity_provider import AUDIENCE, CLIENT, Provider, identity_provider

BASE = "http://127.0.0.1"


@dataclass
class Site:
    """A gateway beside an identity provider, and a browser that follows no redirect by itself."""

    settings: Settings
    provider: Provider
    browser: TestClient
    app: Any

    def begin(self) -> httpx.Response:
        return self.browser.get("/v1/sign-in", follow_redirects=False)

    def back(self) -> str:
        """Begins, signs in at the provider, and returns the address that it sends the browser to."""
        there = self.begin().headers["location"]
        at = httpx.get(there, follow_redirects=False).headers["location"]
        assert at.startswith(f"{BASE}/v1/sign-in/callback?")
        return at.removeprefix(BASE)

    def come(self, at: str) -> dict[str, str]:
        """What is in the fragment of the page's address in the end."""
        answer = self.browser.get(at, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
        url = urlsplit(answer.headers["location"])
        assert (url.scheme, url.netloc, url.path, url.query) == ("", "", "/", "")
        return {name: value for name, (value,) in parse_qs(url.fragment).items()}


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with identity_provider() as provider:
        given = {"oidc_issuer": provider.url, "oidc_audience": AUDIENCE, "oidc_client": CLIENT}
        settings = Settings(data_dir=tmp_path, **{**given, **getattr(request, "param", {})})
        app = create_app(settings)
        issuer = app.state.gateway.issuer
        issuer.start()
        _until_known(issuer, provider.token())
        yield Site(settings, provider, TestClient(app, base_url=BASE), app)
        issuer.stop()


def _until_known(issuer: Any, token: str) -> None:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            issuer.check(token)
            return
        except MindsightError:
            time.sleep(0.02)
    raise AssertionError("the issuer's keys were not fetched")


def test_a_person_signs_in_and_the_page_has_a_key_with_that_role_and_an_end(site: Site) -> None:
    cookie = site.begin().headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Path=/v1/sign-in")), cookie
    found = site.come(site.back())
    own = site.browser.get("/v1/keys/own", headers={"Authorization": f"Bearer {found['key']}"}).json()
    assert own["role"] == "experimenter"
    (held,) = site.app.state.gateway.keys.list()
    assert held.expires_t == pytest.approx(time.time() + 12 * 3600.0, abs=60.0)
    assert held.note.startswith("signed in: oidc-")
    assert "mindsight_sign_in" not in site.browser.cookies, "what was begun is over"
    (line,) = [json.loads(line)["record"] for line in site.settings.audit_file.read_text().splitlines()]
    assert (line["key"], line["role"], line["of"]) == (held.id, "experimenter", {"signed_in": held.note[11:]})
    assert "u-17" not in site.settings.audit_file.read_text()


def test_what_this_browser_has_not_begun_is_refused(site: Site) -> None:
    at = site.back()
    stranger = TestClient(site.app, base_url=BASE)
    answer = stranger.get(at, follow_redirects=False)  # who is sent here with another person's code
    assert answer.headers["location"] == "/#refused=auth.sign_in"
    state = parse_qs(urlsplit(at).query)["state"][0]
    code = parse_qs(urlsplit(at).query)["code"][0]
    of_this = (f"code={code}&state=x", f"code={code}", f"state={state}", f"state={state}&code=other")
    for wrong in (*of_this, "error=access_denied"):
        assert site.come(f"/v1/sign-in/callback?{wrong}") == {"refused": "auth.sign_in"}, wrong
    site.begin()  # another attempt, whose verifier is another
    assert site.come(at) == {"refused": "auth.sign_in"}
    assert site.app.state.gateway.keys.list() == []


def test_a_code_serves_once(site: Site) -> None:
    at = site.back()
    cookie = dict(site.browser.cookies)
    assert "key" in site.come(at)
    site.browser.cookies.update(cookie)
    assert site.come(at) == {"refused": "auth.sign_in"}


def test_who_has_no_role_or_no_answer_is_told_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.provider.roles = ["cleaning"]
    assert site.come(site.back()) == {"refused": "auth.role"}
    for answer in ((200, {}), (200, {"access_token": 1}), (500, {}), (200, [])):
        at = site.back()
        monkeypatch.setattr(site.provider, "exchanged", lambda _, answer=answer: answer)
        assert site.come(at) == {"refused": "auth.sign_in"}, answer
    at = site.back()
    site.provider.server.shutdown()
    site.provider.server.server_close()
    assert site.come(at) == {"refused": "auth.issuer"}


@pytest.mark.parametrize("site", [{"oidc_secret": "s3cret"}], indirect=True)
def test_a_confidential_client_proves_itself(site: Site) -> None:
    assert site.come(site.back()) == {"refused": "auth.sign_in"}
    site.provider.secret = "s3cret"
    assert "key" in site.come(site.back())


@pytest.mark.parametrize("site", [{"behind_proxy": True}], indirect=True)
def test_behind_a_proxy_the_browser_comes_back_over_tls(site: Site) -> None:
    answer = site.browser.get("/v1/sign-in", headers={"Host": "decoder.example.org"}, follow_redirects=False)
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == ["https://decoder.example.org/v1/sign-in/callback"]
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("site", [{"oidc_client": ""}], indirect=True)
def test_without_a_client_there_is_no_sign_in(site: Site) -> None:
    assert site.begin().json()["code"] == "auth.no_sign_in"
    assert site.browser.get("/v1/sign-in/callback?code=x&state=y").status_code == 404


def test_a_client_without_an_issuer_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="MINDSIGHT_OIDC_ISSUER"):
        create_app(Settings(data_dir=tmp_path, oidc_client=CLIENT))


@pytest.mark.parametrize("address", ["http://[", "ftp://x", 1])
def test_an_address_that_is_none_is_refused_in_words(site: Site, address: object) -> None:
    at = site.back()
    site.app.state.gateway.issuer._described.update(authorization_endpoint=address, token_endpoint=address)
    assert set(site.come("/v1/sign-in")) == set(site.come(at)) == {"refused"}


def test_many_wrong_ones_have_to_wait(site: Site) -> None:
    for _ in range(10 * int(WRONG_KEY_BURST)):  # some come back while a slow machine asks
        answer = site.browser.get("/v1/sign-in/callback?code=x&state=y", follow_redirects=False)
        if answer.status_code != 303:
            break
    assert (answer.status_code, answer.json()["code"]) == (429, TooMany.code)
