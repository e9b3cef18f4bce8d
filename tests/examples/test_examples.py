"""Every example, run against one gateway and one session, whose decoder is simulated.

PsychoPy is stood in for (``support/psychopy_standin``): the part that talks to Mindsight really runs. ``make psychopy``
runs the task, and Builder's component, with PsychoPy itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from mindsight.bus import Bus, Log
from mindsight.client import Console, Session
from mindsight.files.images import png_bytes
from mindsight.protocol import EventAdded, SessionArchived, dump_message
from mindsight.volume import Volume
from support.answering import answering
from support.gateway_harness import Running, running_gateway

__all__ = ["running_gateway"]

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    path = EXAMPLES / name
    spec = importlib.util.spec_from_file_location(path.stem, path / "__init__.py" if path.is_dir() else path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bus(running: Running) -> Iterator[Bus]:
    bus = Bus.from_settings(running.settings)
    yield bus
    bus.close()


@pytest.fixture(scope="module")
def console(running: Running, bus: Bus) -> Iterator[Console]:
    """A session with run 1, as ``mindsight stream`` declares it, and a decoder that answers."""
    key = running.keys["experimenter"]
    with Console(running.url, key, spool_dir=running.settings.data_dir / "spool") as console:
        console.open_session(console.enrol())
        console.start_run(1, task="pictures", tr_s=1.5, n_volumes=100)
        data = np.full((4, 4, 2), 100, np.int16)
        console.send(Volume(data, np.diag([3.0, 3, 3, 1]), 1.5, 1, 0, acquired_s=0.0))
        with answering(running, bus, console.session):
            yield console


@pytest.fixture
def environment(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_URL", running.url)
    monkeypatch.setenv("MINDSIGHT_KEY", running.keys["experimenter"])


@pytest.fixture
def psychopy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "support" / "psychopy_standin"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "psychopy"]:
        monkeypatch.delitem(sys.modules, name)


def events_of(running: Running, console: Console) -> dict[int, EventAdded]:
    with Session(running.url, running.keys["experimenter"], console.session) as session:
        found = [message for message in session.messages() if isinstance(message, EventAdded)]
    return {event.trial: event for event in found if event.trial is not None}


def test_the_psychopy_task_declares_what_it_shows_and_logs_what_was_decoded(
    psychopy: None, environment: None, running: Running, console: Console, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(4):
        (pictures / f"scene-{k:03d}.png").write_bytes(png_bytes(np.full((8, 8, 3), 40 * k, np.uint8)))
    task = example("psychopy_task.py")
    log = tmp_path / "task.csv"
    monkeypatch.setattr(sys, "argv", ["task", console.session, str(pictures), "--trials", "4", "--log", str(log)])
    task.main()

    from psychopy import visual

    head, *rows = (line.split(",") for line in log.read_text().splitlines())
    assert head == ["trial", "image", "onset_s", "decoded", "confidence", "waited_s"]
    shown = [row[1] for row in rows]
    assert [row[3] + ".png" for row in rows] == shown  # the simulated decoder is always right
    assert [screen for screen in visual.screens if screen != ("+",)] == [*((name,) for name in shown), ("closed",)]
    events = events_of(running, console)
    assert [events[k].candidate for k in (1, 2, 3, 4)] == [Path(name).stem for name in shown]
    assert [round(events[k].onset_s) for k in (1, 2, 3, 4)] == [6, 10, 14, 18]


def test_results_go_out_as_markers_and_markers_come_in_as_events(
    running: Running, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over real streams of the Lab Streaming Layer, on this machine only."""
    config = tmp_path / "lsl.cfg"
    config.write_text("[multicast]\nResolveScope = machine\n[log]\nlevel = -3\n")
    monkeypatch.setenv("LSLAPICFG", str(config))
    pylsl = pytest.importorskip("pylsl", exc_type=(ImportError, RuntimeError))
    bridge = example("lsl_markers.py")
    key, stop = running.keys["experimenter"], threading.Event()
    with Console(running.url, key, spool_dir=running.settings.data_dir / "spool") as own:
        session = own.open_session(own.enrol())
        own.start_run(2, task="pictures", tr_s=1.5)
        stimulus = pylsl.StreamOutlet(pylsl.StreamInfo("Stimulus", "Markers", 1, 0.0, "string", "stimulus"))
        with answering(running, bus, session):
            taking = threading.Thread(target=bridge.take_events, args=(own, "Stimulus", stop), daemon=True)
            sending = threading.Thread(target=bridge.send_results, args=(running.url, key, session), daemon=True)
            taking.start()
            sending.start()
            found = pylsl.resolve_byprop("name", "Mindsight", timeout=30.0)
            inlet = pylsl.StreamInlet(found[0])
            inlet.open_stream(timeout=30.0)
            assert stimulus.wait_for_consumers(30.0)
            began_s = pylsl.local_clock()
            stimulus.push_sample([json.dumps({"run": 2})], began_s)
            marker = {"trial": 1, "candidate": "scene-003", "duration_s": 3}
            stimulus.push_sample([json.dumps(marker)], began_s + 6.0)
            sample, _ = inlet.pull_sample(timeout=30.0)
        assert json.loads(sample[0]) == {
            "run": 2, "trial": 1, "stage": "fast", "decoded": "scene-003", "confidence": 0.8,
        }  # fmt: skip
        assert events_of(running, own)[1].onset_s == pytest.approx(6.0, abs=0.01)
        stop.set()
        taking.join(10.0)
        archived = SessionArchived(session=session, t=1.0, archive="archive/x", n_files=1)
        Log(bus, session, "messages").append("archived", dump_message(archived))
        sending.join(10.0)
        assert not sending.is_alive()


def test_pulses_of_a_serial_port_reach_the_console() -> None:
    bridge = example("ttl_bridge.py")
    interface, device = os.openpty()
    with socket.create_server(("127.0.0.1", 0)) as console:
        port = bridge.open_port(os.ttyname(device), 9600)
        forwarding = threading.Thread(target=bridge.forward, args=(port, console.getsockname()), daemon=True)
        forwarding.start()
        connection, _ = console.accept()
        before_s = time.time()
        for _ in range(3):
            os.write(interface, b"5")
            time.sleep(0.01)
        lines = b""
        while lines.count(b"\n") < 3:
            lines += connection.recv(4096)
        for line in lines.split():
            assert before_s - 0.1 <= float(line) <= time.time() + 0.1
        os.close(interface)  # the device is gone
        os.close(device)
        forwarding.join(10.0)
        connection.close()
        os.close(port)
    assert not forwarding.is_alive()


def test_the_notebook_watches_a_session(environment: None, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    console.add_event(1, onset_s=120.0, duration_s=3.0, trial=30, candidate="scene-001")
    monkeypatch.setenv("MINDSIGHT_SESSION", console.session)
    notebook = json.loads((EXAMPLES / "watch_session.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # a notebook in a repository carries no data
            source = "".join(cell["source"]).replace("wait(1,", "wait(30,").replace("trial(1,", "trial(30,")
            exec(source.replace("beta(1,", "beta(30,"), names)
    assert names["result"].candidates[0].id == "scene-001"
    assert names["beta_V"].shape == (6,)
    mpl.pyplot.close("all")
