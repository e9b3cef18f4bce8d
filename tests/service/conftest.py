from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from mindsight.bus import Bus
from support.gateway_harness import Running, payload, running_gateway

__all__ = ["running_gateway"]


@pytest.fixture
def bus(running: Running) -> Iterator[Bus]:
    bus = Bus.from_settings(running.settings)
    yield bus
    bus.close()


@pytest.fixture
def admin(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


@pytest.fixture
def session(admin: httpx.Client) -> str:
    """An open session with run 1 declared: 10 volumes of 2 s."""
    subject = admin.post("/v1/subjects").json()["subject"]
    opened = admin.post("/v1/sessions", json={"subject": subject})
    assert opened.status_code == 201, opened.text
    session: str = opened.json()["session"]
    run = {"run": 1, "task": "view", "tr_s": 2.0, "n_volumes": 10}
    assert admin.post(f"/v1/sessions/{session}/runs", json=run).status_code == 201
    return session


@pytest.fixture
def make_payload() -> Callable[..., bytes]:
    return payload
