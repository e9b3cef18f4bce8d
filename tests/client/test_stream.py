"""``mindsight stream`` on real files, some of them bad, into a real gateway: the run goes on, and losses are said."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log
from mindsight.cli import app
from mindsight.cli.terminal import Terminal
from mindsight.client import Console
from mindsight.client.live import LiveStream
from mindsight.client.send import Sent
from mindsight.errors import MindsightError
from mindsight.operations.stream import Destination, RunOptions, stream_live, stream_recorded
from mindsight.protocol import Warned, parse_message
from mindsight.protocol.inputs import SkipVolume, StartRun, TakeVolume, parse_input
from mindsight.scanner import read_series
from mindsight.scanner.recording import open_recorded
from mindsight.scanner.transports import FAILED, Item, RunEnded, TransportWarning
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from support.gateway_harness import Running


@pytest.fixture
def session(running: Running) -> str:
    with Console(running.url, running.keys["console"]) as console:
        return console.open_session(console.enrol())


def destination(running: Running, session: str, tmp_path: Path) -> Destination:
    return Destination(session, running.keys["console"], running.url, tmp_path / "spool")


def payloads(bus: Bus, session: str) -> list[bytes]:
    return [entry.payload for entry in Log(bus, session, "input").read()]


def taken(running: Running, bus: Bus, session: str) -> tuple[list[Volume], list[int]]:
    """The volumes that the service has, and the indices that were declared missing."""
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    blobs = BlobStore(running.settings.blobs_dir)
    volumes = [decode_volume(blobs.get(entry.digest)) for entry in entries if isinstance(entry, TakeVolume)]
    return volumes, [entry.index for entry in entries if isinstance(entry, SkipVolume)]


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
    said = capsys.readouterr()
    assert "5 volumes acknowledged, 3 missing" in said.out
    assert said.err.count("dicom.truncated") == 2
    assert "Doe" not in said.out + said.err


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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
    assert begun.n_volumes == 3  # as the source says: a bundle with a fixed basis needs it
    assert missing == []
    assert [volume.trigger_s for volume in volumes] == [pytest.approx(stamp, abs=1e-5) for stamp in stamps[:3]]
    replayed = open_recorded(tmp_path / "kept" / "run-001")
    for volume, kept, truth in zip(
        volumes, replayed.volumes(), read_series(shared / "data" / "trio_run155" / "dcm"), strict=False
    ):
        np.testing.assert_array_equal(volume.data, truth.data)
        np.testing.assert_array_equal(kept.data, truth.data)
        assert kept.trigger_s == volume.trigger_s
        assert kept.arrived_s == volume.arrived_s


def test_what_comes_after_a_run_is_told_of_that_run(
    running: Running, bus: Bus, session: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The transport counts runs from 1, the session from wherever it is."""
    volumes = [Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.0, run, 0) for run in (1, 2)]
    items = [
        *(volumes[0], RunEnded(1, 1), volumes[1]),
        TransportWarning("volume.after_end", "run 1: volumes came after its end; dropped", None, 1),
    ]
    with Console(running.url, running.keys["console"], session=session) as console:
        live = LiveStream(
            console,
            first_run=5,
            before=[],
            events=[],
            task="view",
            trail=None,
            clock=time.monotonic,
            report=Terminal(),
        )
        live.send(items)
    messages = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    (told,) = [message for message in messages if isinstance(message, Warned)]
    assert (told.run, told.text) == (5, "run 5: volumes came after its end; dropped")
    assert "run 5: volumes came after its end" in capsys.readouterr().err


def sent_live(running: Running, session: str, items: list[Item]) -> Sent:
    with Console(running.url, running.keys["console"], session=session) as console:
        live = LiveStream(
            console,
            first_run=1,
            before=[],
            events=[],
            task="view",
            trail=None,
            clock=time.monotonic,
            report=Terminal(),
        )
        return live.send(items)


def test_a_volume_that_the_service_cannot_take_is_missing_and_the_next_goes_on(
    running: Running, bus: Bus, session: str
) -> None:
    kinds = (np.int16, np.float16, np.int16)  # half precision has no place on the wire
    items = [Volume(np.zeros((8, 8, 8), kind), np.eye(4), 1.0, 1, k) for k, kind in enumerate(kinds)]
    sent = sent_live(running, session, [*items, RunEnded(1, 3)])
    volumes, missing = taken(running, bus, session)
    assert ([volume.index for volume in volumes], missing) == ([0, 2], [1])
    assert (sent.n_volumes, sent.n_missing, sent.is_whole) == (2, 1, False)


def test_what_was_lost_is_counted_and_a_transport_that_died_is_an_error(running: Running, session: str) -> None:
    volume = Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.0, 1, 0)
    unreadable = TransportWarning("object.unreadable", "object 7: it cannot be read", lost=True)
    passed_over = TransportWarning("series.ignored", "a series was passed over: it had no second volume")
    sent = sent_live(running, session, [volume, unreadable, passed_over, RunEnded(1, 1)])
    assert (sent.n_missing, sent.n_lost, sent.is_whole) == (0, 1, False)
    with pytest.raises(MindsightError) as caught:
        sent_live(running, session, [TransportWarning(FAILED, "watching the folder has ended")])
    assert caught.value.code == FAILED


@pytest.mark.parametrize(("which", "code"), [((0, 1, 2), 0), ((0, 2), 3)])
def test_the_exit_code_tells_whether_something_is_missing(
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
