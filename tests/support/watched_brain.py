"""A gateway and one session's ingest in this process, for a browser that looks at the brain.

Knows nothing of what is looked at. Processes of their own would take seconds to start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from mindsight.bus import Lease, WorkQueue
from mindsight.client import Console
from mindsight.settings import Settings
from service.app import create_app
from service.keys import create_keys
from support.house import House, opened
from workers.ingest.runner import SessionRunner
from workers.ingest.session_process import follow

DEADLINE_S = 60.0


@dataclass
class Watched:
    """url, key : of the gateway, for an admin. console : has an open session ``session``, whose ingest runs"""

    url: str
    key: str
    console: Console
    session: str
    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)
    ingest: threading.Thread | None = None

    def finish(self) -> None:
        """Wait until ingest has taken a closed session to its end."""
        assert self.ingest is not None
        self.ingest.join(DEADLINE_S)
        assert not self.ingest.is_alive()


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Ends with its gateway and its ingest."""
    with opened(folder / "data") as house:
        key = create_keys(house.settings.data_dir)["admin"]
        config = uvicorn.Config(create_app(house.settings), port=0, log_level="error", ws="websockets-sansio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until_s = time.monotonic() + DEADLINE_S
        while not server.started and time.monotonic() < until_s:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            with Console(url, key, spool_dir=folder / "spool") as console:
                session = console.open_session(console.enrol())
                world = Watched(url, key, console, session, house.settings)
                ingest = threading.Thread(target=_ingest, args=(world, house))
                world.ingest = ingest
                ingest.start()
                try:
                    yield world
                finally:
                    world.stop.set()
                    ingest.join(DEADLINE_S)
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


def _ingest(world: Watched, house: House) -> None:
    lease = Lease.acquire(house.bus, world.session, "test", 600.0)
    assert lease is not None
    queue = WorkQueue(house.bus, "inference")
    runner = SessionRunner(world.session, lease, house.bus, house.blobs, queue, house.settings)
    follow(runner, Value(), world.stop)


@dataclass
class Value:
    """Where ingest is; nobody asks here."""

    value: int = 0
