"""A run's events on their way: the same table by any way is the same trials, and none of its faults stops a volume."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.bus import Bus, Log
from mindsight.cli.terminal import Terminal
from mindsight.client import Console
from mindsight.client.live import LiveStream
from mindsight.errors import BadRequest, BadVolume
from mindsight.events import declare, parse_events_tsv
from mindsight.operations.stream import Destination, RunOptions, stream_live, stream_recorded
from mindsight.protocol import EventAdded, RunStarted, Warned, parse_message
from mindsight.protocol.inputs import AddEvent, Input, TakeVolume, parse_input
from mindsight.scanner.transports import RunEnded
from mindsight.volume import Volume
from support.gateway_harness import Running

N, TR_S = 6, 2.0
TABLE = """\
onset\tduration\ttrial_type\timage_name
2\t0\tn/a\tn/a
2\t0\tn/a\tn/a
2\t1\tn/a\tn/a
-2.5\t1\tanimal\timages/cat.png
8\tn/a\tanimal\timages/dog.png
n/a\t1\tanimal\timages/cat.png
40\t1\tn/a\timages/cow.png
41\t1\tcow\timages/other.png
-60\t1\tanimal\timages/cow.png
"""


def write_run(folder: Path, table: str | None = None, motion: bool = False) -> Path:
    folder.mkdir()
    data = np.random.default_rng(0).integers(0, 500, (8, 7, 5, N)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, TR_S))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(folder / "bold.nii.gz")
    if table is not None:
        (folder / "events.tsv").write_text(table)
    if motion:
        np.savetxt(folder / "motion.txt", np.arange(6.0 * N).reshape(N, 6))
    return folder


def opened(running: Running, bundle: str | None = None) -> str:
    with Console(running.url, running.keys["console"]) as console:
        return console.open_session(console.enrol(bundle))


def stream(running: Running, session: str, source: Path | str, tmp_path: Path, events: Path | None = None) -> None:
    to = Destination(session, running.keys["console"], running.url, tmp_path / "spool")
    if isinstance(source, str):
        stream_live(source, to, RunOptions(events=events), Terminal())
    else:
        stream_recorded(source, to, RunOptions(events=events), Terminal())


def inputs(bus: Bus, session: str) -> list[Input]:
    return [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]


def events_of(bus: Bus, session: str) -> list[dict[str, object]]:
    return [entry.model_dump(exclude={"t", "v"}) for entry in inputs(bus, session) if isinstance(entry, AddEvent)]


def warnings(bus: Bus, session: str) -> list[Warned]:
    messages = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    return [message for message in messages if isinstance(message, Warned)]


@pytest.fixture
def nested(running: Running) -> str:
    """A bundle whose pool was made of a folder with folders in it."""
    folder = running.settings.bundles_dir / "nested"
    (folder / "pool").mkdir(parents=True, exist_ok=True)
    (folder / "bundle.json").write_text('{"pool": {"size": 3}}')
    (folder / "pool" / "pool.json").write_text(json.dumps({"ids": ["images/cat", "images/dog", "cow"]}))
    return "nested"


def test_the_same_table_streamed_and_posted_is_the_same_events(
    running: Running, bus: Bus, nested: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "Doe_events.tsv"
    table.write_text(TABLE)
    streamed, beside, posted = (opened(running, nested) for _ in range(3))
    stream(running, streamed, write_run(tmp_path / "a"), tmp_path, table)
    printed = capsys.readouterr().err
    stream(running, beside, write_run(tmp_path / "b", TABLE), tmp_path)
    with Console(running.url, running.keys["console"], session=posted) as console:
        console.start_run(1, task="view", tr_s=TR_S, n_volumes=N)
        notes = console.add_events(1, TABLE)
        assert console.add_events(1, TABLE) == notes
    events = events_of(bus, posted)
    assert events_of(bus, streamed) == events_of(bus, beside) == events
    assert [(event["onset_s"], event["trial"], event["candidate"]) for event in events] == [
        (-2.5, 2, "images/cat"),
        *(3 * [(2.0, None, None)]),
        (8.0, 3, "images/dog"),
        (40.0, 4, "cow"),
        (41.0, 5, None),
    ]
    assert events[-1]["stim_file"] == "images/other.png"
    logged = [
        {(warned.code, warned.text) for warned in warnings(bus, session)} for session in (streamed, beside, posted)
    ]
    assert logged[0] == logged[1] == logged[2] == {(note.code, note.text) for note in notes}
    assert {"events.onset", "events.too_early", "events.no_duration", "events.column"} == {note.code for note in notes}
    assert all(note.text in printed for note in notes)
    assert "response to trials 4, 5: no final result" in printed
    assert "Doe" not in printed
    volumes = [entry for entry in inputs(bus, streamed) if isinstance(entry, TakeVolume)]
    assert [volume.index for volume in volumes] == list(range(N))


def test_a_missing_length_of_runs_is_refused_before_anything_is_listened_to(
    running: Running, bus: Bus, tmp_path: Path
) -> None:
    for mode in ("fixed", "nilearn"):
        (running.settings.bundles_dir / mode).mkdir(parents=True, exist_ok=True)
        (running.settings.bundles_dir / mode / "bundle.json").write_text(
            json.dumps({"pool": {"size": 3}, "options": {"mode": mode}})
        )
    planned = opened(running, "fixed")
    with pytest.raises(BadRequest) as caught:
        stream(running, planned, f"watch:{tmp_path}", tmp_path)
    assert caught.value.code == "run.length_unknown"
    assert "n=" in str(caught.value)
    for bundle, needs in (("fixed", True), ("nilearn", False), (None, False)):
        with Console(running.url, running.keys["console"], session=opened(running, bundle)) as console:
            assert console.needs_n_volumes() is needs
    assert len(inputs(bus, planned)) == 1  # nothing but that it was opened


def test_the_same_watching_command_with_a_longer_table_goes_on(running: Running, bus: Bus, tmp_path: Path) -> None:
    class EndedError(Exception):
        pass

    class Once:
        """A transport that is killed before its first item."""

        def items(self) -> object:
            raise EndedError

    sources, session = [], opened(running, None)

    def listening(source: str, *_: object) -> object:
        sources.append(source)
        return contextlib.nullcontext(Once())

    watched, table = tmp_path / "watched", tmp_path / "events.tsv"
    watched.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mindsight.operations.stream._listening", listening)
        for rows in ("1\t1\n", "1\t1\n5\t1\n"):
            table.write_text(f"onset\tduration\n{rows}")
            with pytest.raises(EndedError):
                stream(running, session, f"watch:{watched}", tmp_path, table)
    assert ["since=" in source for source in sources] == [False, True]


def test_without_a_pool_the_images_name_is_its_files(running: Running, bus: Bus, tmp_path: Path) -> None:
    session = opened(running)
    stream(running, session, write_run(tmp_path / "a", TABLE), tmp_path)
    assert [event["candidate"] for event in events_of(bus, session) if event["trial"]] == ["cat", "dog", "cow", "other"]
    messages = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    (cat,) = [m for m in messages if isinstance(m, EventAdded) and m.candidate == "cat"]
    assert cat.stim_file == "images/cat.png"


def test_the_same_command_again_adds_no_event(running: Running, bus: Bus, tmp_path: Path) -> None:
    """A restarted stream declares its table again, here into a run that was left open."""
    session = opened(running)
    volumes = [Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), 1.0, 1, index) for index in range(3)]
    declared = declare(parse_events_tsv(TABLE)).events
    with Console(running.url, running.keys["console"], session=session, spool_dir=tmp_path) as console:
        for part in (volumes[:2], [*volumes[2:], RunEnded(1, 3)]):
            LiveStream(
                console,
                first_run=1,
                before=console.runs(),
                events=declared,
                task="view",
                trail=None,
                clock=time.monotonic,
                report=Terminal(),
            ).send(part)
    assert len(events_of(bus, session)) == 7
    assert [entry.index for entry in inputs(bus, session) if isinstance(entry, TakeVolume)] == [0, 1, 2]


def test_a_table_that_changed_meanwhile_is_refused_and_the_volumes_are_sent(
    running: Running, bus: Bus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = opened(running)
    with Console(running.url, running.keys["console"], session=session) as console:
        console.start_run(1, task="view", tr_s=TR_S, n_volumes=N)
        console.add_events(1, "onset\tduration\ttrial_type\n2\t1\tface\n")
    table = "onset\tduration\ttrial_type\n2\t1\thouse\n"
    stream(running, session, write_run(tmp_path / "a", table), tmp_path)
    assert len([entry for entry in inputs(bus, session) if isinstance(entry, TakeVolume)]) == N
    assert [warned.code for warned in warnings(bus, session)] == ["events.refused"]
    assert "events.refused" in capsys.readouterr().err


def test_a_run_without_a_table_is_sent_with_a_warning(running: Running, bus: Bus, tmp_path: Path) -> None:
    session = opened(running)
    stream(running, session, write_run(tmp_path / "a"), tmp_path)
    assert [warned.code for warned in warnings(bus, session)] == ["events.missing"]


def test_notes_on_a_series_are_reported_too(running: Running, bus: Bus, tmp_path: Path) -> None:
    session = opened(running)
    folder = write_run(tmp_path / "a", "onset\tduration\ttrial_type\n2\t1\tface\n")
    (folder / "bold.json").write_text('{"SliceTiming": [0.0]}')
    stream(running, session, folder, tmp_path)
    assert {(warned.code, warned.level) for warned in warnings(bus, session)} == {("series.note", "info")}


def test_a_table_that_cannot_be_read_ends_the_command_before_the_first_volume(
    running: Running, bus: Bus, tmp_path: Path
) -> None:
    session, table = opened(running), tmp_path / "events.tsv"
    table.write_text("4\t1\tface\n")
    with pytest.raises(BadRequest) as caught:
        stream(running, session, write_run(tmp_path / "a"), tmp_path, table)
    assert caught.value.code == "events.columns"
    assert len(inputs(bus, session)) == 1


def test_motion_beside_a_run_goes_with_its_volumes(running: Running, bus: Bus, tmp_path: Path) -> None:
    session = opened(running)
    stream(running, session, write_run(tmp_path / "a", TABLE, motion=True), tmp_path)
    messages = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    assert [m.motion for m in messages if isinstance(m, RunStarted)] == ["unknown"]


@pytest.mark.parametrize(("motion", "motion_6"), [(None, 6 * (0.5,)), ("rotations", None)])
def test_a_volume_brings_motion_as_its_run_was_declared(
    running: Running, tmp_path: Path, motion: str | None, motion_6: tuple[float, ...] | None
) -> None:
    volume = Volume(np.zeros((8, 8, 8), np.int16), np.eye(4), TR_S, 1, 0, motion_6=motion_6)
    session = opened(running)
    with Console(running.url, running.keys["console"], session=session, spool_dir=tmp_path) as console:
        console.start_run(1, task="view", tr_s=TR_S, motion=motion)  # type: ignore[arg-type]
        with pytest.raises(BadVolume) as caught:
            console.send(volume)
    assert caught.value.code == "volume.motion"
