"""A worker that is told to stop while its bus is away does not wait for the bus; what it frees goes to the system."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mindsight.bus import Bus
from mindsight.processes import return_free_memory
from mindsight.settings import Settings
from support.ports import free_port
from support.proc import anonymous_mb
from workers.ingest.worker import IngestWorker
from workers.jobs.worker import JobsWorker
from workers.process import BUS_DEADLINE_S, run_process


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}")


def test_before_it_is_ready(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.process.read_settings", lambda: settings)
    told = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    began_s = time.monotonic()
    try:
        assert run_process("test", lambda _: timer.start(), lambda *_: pytest.fail("it has no bus")) == 0
    finally:
        timer.join()
        for number, handler in told.items():
            signal.signal(number, handler)
    assert time.monotonic() < began_s + BUS_DEADLINE_S / 2


@pytest.mark.parametrize(
    "made",
    [
        lambda settings, bus, stop: JobsWorker(settings, bus, "test", stop),
        lambda settings, bus, stop: IngestWorker(settings, bus, stop, multiprocessing.get_context("forkserver")),
    ],
    ids=["jobs", "ingest"],
)
def test_while_it_works(
    settings: Settings, made: Callable[[Settings, Bus, threading.Event], JobsWorker | IngestWorker]
) -> None:
    stop, began_s = threading.Event(), time.monotonic()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with closing(Bus.from_settings(settings)) as bus:
        made(settings, bus, stop).run()
    timer.join()
    assert time.monotonic() < began_s + BUS_DEADLINE_S / 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_goes_to_the_system() -> None:
    taken = [np.ones(6000) for _ in range(2000)]  # of 48 kB each: the C library keeps them for later
    kept = taken[::20]
    del taken
    before_mb = anonymous_mb(os.getpid())
    return_free_memory()
    assert anonymous_mb(os.getpid()) < before_mb - 50.0
    assert sum(map(len, kept)) == 100 * 6000
