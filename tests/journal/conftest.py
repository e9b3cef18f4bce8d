from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from mindsight.bus import Bus, EmbeddedServer
from mindsight.settings import Settings

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with EmbeddedServer(Settings(data_dir=tmp_path_factory.mktemp("bus"))) as server:
        bus = Bus(server.url)
        yield bus
        bus.close()


@pytest.fixture
def name() -> str:
    """The name of a session that no other test uses on the shared server."""
    return f"test-{next(_numbers)}"
