from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mindsight.bus import Bus
from support.gateway_harness import Running, running_gateway
from support.proxy_harness import Proxy

__all__ = ["running_gateway"]


@pytest.fixture
def proxy(running: Running) -> Iterator[Proxy]:
    proxy = Proxy(running.url)
    yield proxy
    proxy.close()


@pytest.fixture
def cutting(proxy: Proxy) -> Iterator[Callable[[int], None]]:
    """Starts a thread that cuts all connections of the proxy at random moments, ``cuts`` times."""
    threads: list[threading.Thread] = []
    stop = threading.Event()

    def start(cuts: int) -> None:
        rng = random.Random(7)

        def run() -> None:
            while proxy.cuts < cuts and not stop.is_set():
                time.sleep(rng.uniform(0.02, 0.12))
                proxy.cut()

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(10)


@pytest.fixture
def bus(running: Running) -> Iterator[Bus]:
    bus = Bus.from_settings(running.settings)
    yield bus
    bus.close()
