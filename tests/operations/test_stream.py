"""``mindsight stream`` on real files, some of them bad, into a real gateway: the run goes on, losses are reported."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mindsight.bus import Bus, Log
from mindsight.cli import app
from mindsight.cli.terminal import Terminal
from mindsight.client import Console
from mindsight.operations.stream import Destination, RunOptions, stream_live, stream_recorded
from mindsight.protocol.inputs import StartRun, parse_input
from mindsight.scanner import read_series
from mindsight.scanner.recording import open_run
from support.gateway_harness import Running, taken
from support.ports import free_port


@pytest.fixture
def session(running: Running) -> str:
    with Console(running.url, running.keys["console"]) as console:
        return console.open_session(console.enrol())


def destination(running: Running, session: str, tmp_path: Path) -> Destination:
    return Destination(session, running.keys["console"], running.url, tmp_path / "spool")


def payloads(bus: Bus, session: str) -> list[bytes]:
    return [entry.payload for entry in Log(bus, session, "input").read()]


def test_a_folder_with_bad_files(
    running: Running, bus: Bus, session: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Doe"
    folder.mkdir()
    files = sorted((shared / "data" / "trio_run155" / "dcm").iterdir())[:8]
    for k, path in enumerate(files):
        if k != 2:
            shutil.copy(path, folder / f"Doe_{k}.dcm")
    for k, n_bytes in ((4, 100_000), (7, 300_000)):
        (folder / f"Doe_{k}.dcm").write_bytes(files[k].read_bytes()[:n_bytes])
    sent = stream_recorded(folder, destination(running, session, tmp_path), RunOptions(), Terminal())
    assert (sent.n_missing, sent.is_whole) == (3, False)
    volumes, missing = taken(running, bus, session)
    truth = [volume for volume, _ in zip(read_series(shared / "data" / "trio_run155" / "dcm"), range(8), strict=False)]
    assert [volume.index for volume in volumes] == [0, 1, 3, 5, 6]
    assert missing == [2, 4, 7]
    for volume in volumes:
        np.testing.assert_array_equal(volume.data, truth[volume.index].data)
    printed = capsys.readouterr()
    assert "5 volumes acknowledged, 3 missing" in printed.out
    assert printed.err.count("dicom.truncated") == 2
    assert "Doe" not in printed.out + printed.err


@pytest.mark.slow
def test_a_live_run_with_pulses_and_a_recording(
    running: Running, bus: Bus, session: str, shared: Path, tmp_path: Path
) -> None:
    folder, port = tmp_path / "in", free_port()
    folder.mkdir()
    files = sorted((shared / "data" / "trio_run155" / "dcm").iterdir())[:3]
    stamps: list[float] = []

    def scanner() -> None:
        end_s = time.monotonic() + 20.0
        while time.monotonic() < end_s:
            try:
                pulses = socket.create_connection(("127.0.0.1", port), timeout=10)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        with pulses:
            begin_s = time.time()
            for k in range(4):
                time.sleep(max(0.0, begin_s + 1.97 * k - time.time()))
                stamps.append(round(time.time() - 1000.0, 6))
                pulses.sendall(b"%.6f\n" % stamps[-1])
                if k:
                    shutil.copy(files[k - 1], folder)

    thread = threading.Thread(target=scanner)
    thread.start()
    sent = stream_live(
        f"watch:{folder}?n=3&idle=4",
        destination(running, session, tmp_path),
        RunOptions(),
        Terminal(),
        triggers=f"tcp://127.0.0.1:{port}",
        record=tmp_path / "kept",
    )
    assert sent.is_whole
    thread.join()
    volumes, missing = taken(running, bus, session)
    (begun,) = [entry for entry in map(parse_input, payloads(bus, session)) if isinstance(entry, StartRun)]
    assert begun.n_volumes == 3  # from the source; a bundle with a fixed basis needs it
    assert missing == []
    assert [volume.trigger_s for volume in volumes] == [pytest.approx(stamp, abs=1e-5) for stamp in stamps[:3]]
    replayed = open_run(tmp_path / "kept" / "run-001")
    for volume, kept, truth in zip(
        volumes, replayed.volumes(), read_series(shared / "data" / "trio_run155" / "dcm"), strict=False
    ):
        np.testing.assert_array_equal(volume.data, truth.data)
        np.testing.assert_array_equal(kept.data, truth.data)
        assert kept.trigger_s == volume.trigger_s
        assert kept.arrived_s == volume.arrived_s


@pytest.mark.parametrize(("which", "code"), [((0, 1, 2), 0), ((0, 2), 3)])
def test_the_exit_code_shows_whether_something_is_missing(
    which: tuple[int, ...],
    code: int,
    running: Running,
    session: str,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MINDSIGHT_KEY", running.keys["console"])
    folder = tmp_path / "run"
    folder.mkdir()
    for k in which:
        shutil.copy(sorted((shared / "data" / "trio_run155" / "dcm").iterdir())[k], folder)
    command = ["stream", str(folder), "--session", session, "--to", running.url, "--spool", str(tmp_path / "spool")]
    assert CliRunner().invoke(app, command).exit_code == code
