from __future__ import annotations

from collections.abc import Iterator

import pytest

from mindsight.bus import Bus
from support.gateway_harness import Running, running_gateway

__all__ = ["running_gateway"]


@pytest.fixture
def bus(running: Running) -> Iterator[Bus]:
    bus = Bus.from_settings(running.settings)
    yield bus
    bus.close()
