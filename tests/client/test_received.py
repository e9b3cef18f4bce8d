"""``mindsight stream cstore://`` as a process that is killed: what was acknowledged to senders reaches the service."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedMRImageStorage

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log
from mindsight.client import Console
from mindsight.protocol.inputs import SkipVolume, TakeVolume, parse_input
from mindsight.volume_codec import decode_volume
from support.enhanced_files import enhanced, pixels
from support.gateway_harness import Running
from support.ports import free_port


@pytest.fixture
def session(running: Running) -> str:
    with Console(running.url, running.keys["console"]) as console:
        return console.open_session(console.enrol())


@pytest.fixture
def port() -> int:
    return free_port()


@contextlib.contextmanager
def streaming(running: Running, session: str, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mindsight.cli", "stream", f"cstore://127.0.0.1:{port}", "--session", session]
    process = subprocess.Popen(
        [*command, "--to", running.url, "--spool", str(tmp_path / "spool")],
        env=os.environ | {"MINDSIGHT_KEY": running.keys["console"], "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "listening" in line:
                break
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def send(port: int, numbers: range, series: str = "1.2.3") -> int:
    """How many of them were acknowledged before the receiver was gone."""
    entity = AE()
    entity.add_requested_context(EnhancedMRImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title="MINDSIGHT")
    n_acknowledged = 0
    for number in numbers:
        try:
            status = association.send_c_store(enhanced(number, series))
        except RuntimeError:  # the association is no more
            break
        if "Status" not in status or status.Status != 0x0000:
            break
        n_acknowledged += 1
    if association.is_established:
        association.release()
    return n_acknowledged


def taken(running: Running, bus: Bus, session: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Run and index of the volumes that the service has, whose voxels are right, and of those declared missing."""
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    blobs, found = BlobStore(running.settings.blobs_dir), list[tuple[int, int]]()
    for entry in entries:
        if isinstance(entry, TakeVolume):
            volume = decode_volume(blobs.get(entry.digest))
            truth = pixels(volume.index + 1, "1.2.3" if volume.run == 1 else "1.2.4")
            np.testing.assert_array_equal(volume.data.T, truth[:, ::-1])
            found.append((volume.run, volume.index))
    return found, [(entry.run, entry.index) for entry in entries if isinstance(entry, SkipVolume)]


def wait_for(done: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20.0
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.slow
def test_a_first_volume_that_waited_for_the_second_survives_a_kill(
    running: Running, bus: Bus, session: str, port: int, tmp_path: Path
) -> None:
    """A series is a run from its second volume on; the first was acknowledged and in no spool but this one."""
    with streaming(running, session, port, tmp_path) as process:
        assert send(port, range(1, 2)) == 1
        process.kill()
    assert b"Doe" not in b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    with streaming(running, session, port, tmp_path) as process:
        assert send(port, range(2, 4)) == 2
        wait_for(lambda: len(taken(running, bus, session)[0]) == 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert taken(running, bus, session) == ([(1, 0), (1, 1), (1, 2)], [])
    assert list((tmp_path / "spool" / session / "received").iterdir()) == []


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_kills_at_any_moment_lose_nothing_and_double_nothing(
    running: Running, bus: Bus, session: str, port: int, tmp_path: Path, kills: int
) -> None:
    rng = random.Random()
    n_sent = 0
    for _ in range(kills):
        with streaming(running, session, port, tmp_path) as process:
            killer = rng.uniform(0.05, 0.4)
            started_s = time.monotonic()
            while time.monotonic() - started_s < killer:
                n_sent += send(port, range(n_sent + 1, n_sent + 3))
            process.kill()
    with streaming(running, session, port, tmp_path) as process:
        n_sent += send(port, range(n_sent + 1, n_sent + 3))
        wait_for(lambda: len(taken(running, bus, session)[0]) >= n_sent)
        send(port, range(1, 4), "1.2.4")  # the scanner starts another series
        wait_for(lambda: len(taken(running, bus, session)[0]) >= n_sent + 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    found, missing = taken(running, bus, session)
    assert found == [*((1, k) for k in range(n_sent)), (2, 0), (2, 1), (2, 2)]
    assert missing == []
