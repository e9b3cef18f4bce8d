"""The page's way through the site's sign-in, in a real browser beside a real gateway and an identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mindsight.bus import EmbeddedServer
from mindsight.settings import Settings
from support.dashboard_browser import Tab
from support.gateway_harness import start_gateway, stop
from support.identity_provider import AUDIENCE, CLIENT, Provider, identity_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def url(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {"ISSUER": provider.url, "AUDIENCE": AUDIENCE, "CLIENT": CLIENT}.items():
        monkeypatch.setenv(f"MINDSIGHT_OIDC_{name}", value)
    settings = Settings(data_dir=tmp_path)
    with EmbeddedServer(settings):
        process, url = start_gateway(settings)
        yield url
        stop(process)


def test_a_person_without_a_role_is_told_so_and_one_with_a_role_is_in(tab: Tab, url: str, provider: Provider) -> None:
    provider.roles = ["cleaning"]
    tab.page.goto(url)
    tab.page.click("text=Sign in with your account")
    tab.until("document.querySelector('.key-form .problem')?.textContent.includes('no role here')")
    assert "refused" not in tab.page.url
    assert tab.page.evaluate("sessionStorage.getItem('mindsight.key')") is None

    provider.roles = ["experimenter"]
    tab.page.click("text=Sign in with your account")
    tab.until("document.querySelector('.landing') !== null")
    assert "key" not in tab.page.url
    assert str(tab.page.evaluate("sessionStorage.getItem('mindsight.key')")).startswith("ms_")
    assert tab.problems == []
