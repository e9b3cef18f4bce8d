"""A killed ingest worker's sessions go on in the other, which is there already."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from mindsight.bus import Bus
from mindsight.journal.presence import Presence
from mindsight.protocol import VolumeProcessed
from support.chaos import Service, led_by, served, short_visit
from support.ports import free_port

WORKERS = ("ingest", "ingest-2")


def test_a_session_goes_on_in_the_other_worker(tmp_path: Path) -> None:
    plan, volumes = short_visit()[0]
    with served(tmp_path / "data", free_port()) as service, service.console(tmp_path / "spool") as console:
        _wait(lambda: _n_ingest_workers(service) == len(WORKERS))
        console.open_session(console.enrol("demo"), session="two")
        console.start_run(plan.run, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes)
        console.send(volumes[0])
        _wait(lambda: _n_processed(service) == 1)
        pids = {part: service.supervisor.process(part).pid for part in WORKERS}
        (leading,) = (part for part, pid in pids.items() if led_by(service, pid, ["two"]))
        (other,) = set(WORKERS) - {leading}
        os.kill(pids[leading], signal.SIGKILL)
        console.send(volumes[1])
        _wait(lambda: _n_processed(service) == 2)
        assert led_by(service, pids[other], ["two"]) == ["two"]
        console.close_session()
        service.archived("two")


def _n_ingest_workers(service: Service) -> int:
    bus = Bus.from_settings(service.settings)
    try:
        return sum(worker.kind == "ingest" for worker in Presence(bus).list(time.time()))
    finally:
        bus.close()


def _n_processed(service: Service) -> int:
    return sum(isinstance(message, VolumeProcessed) for message in service.read("two")[1])


def _wait(done: Callable[[], bool], deadline_s: float = 60.0) -> None:
    until_s = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < until_s, "in vain"
        time.sleep(0.05)
