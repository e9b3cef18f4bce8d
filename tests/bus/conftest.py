from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mindsight.bus import Bus, EmbeddedServer
from mindsight.settings import Settings

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def bus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedServer(Settings(data_dir=tmp_path_factory.mktemp("bus"))) as server:
        yield server.url


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
