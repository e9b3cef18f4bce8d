from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mindsight.bus import Bus
from mindsight.settings import Settings
from support.redis_forms import FORMS

_numbers = itertools.count(1)


@pytest.fixture(
    scope="session", params=["one", *(pytest.param(form, marks=pytest.mark.slow) for form in ("cluster", "sentinel"))]
)
def bus_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The contract of logs, leases and queues holds on each form of bus."""
    with FORMS[request.param](tmp_path_factory.mktemp("bus")) as form:
        yield form.url


@pytest.fixture
def bus(bus_url: str) -> Iterator[Bus]:
    bus = Bus(bus_url)
    yield bus
    bus.close()


@pytest.fixture
def open_bus(settings: Settings) -> Iterator[Callable[[], Bus]]:
    """Buses of the settings' embedded server, which are closed with the test: a socket left open is an error."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Bus.from_settings(settings)))


@pytest.fixture
def name() -> str:
    """A name that no other test uses on the shared server."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)
