"""PsychoPy itself (``make psychopy``), in an environment of its own with our base install, on a screen in memory.

Neither what is shown nor the clocks are stood in for: the task's keys come from the display's server, images go through
its OpenGL.
"""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from mindsight.bus import Bus
from mindsight.client import Console, Session
from mindsight.files.images import png_bytes
from mindsight.protocol import EventAdded
from mindsight.volume import Volume
from support.answering import answering
from support.gateway_harness import Running, running_gateway

__all__ = ["running_gateway"]

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / ".psychopy" / "bin" / "python"
REAL = ROOT / "tests" / "support" / "psychopy_real"
DEADLINE_S = 300.0
pytestmark = pytest.mark.slow

if not PYTHON.exists():
    pytest.skip("needs PsychoPy: make psychopy", allow_module_level=True)
if shutil.which("Xvfb") is None:
    pytest.skip("needs a screen (Debian: apt install xvfb libgl1 libglu1-mesa)", allow_module_level=True)


@pytest.fixture
def display(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a program that draws on a screen of its own."""
    read, write = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    ) as server:
        os.close(write)
        with os.fdopen(read) as said:
            number = said.readline().strip()  # the whole line: the server ends if nobody reads it to its end
        home = tmp_path / "home"
        home.mkdir()
        yield {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            **{"DISPLAY": f":{number}", "HOME": str(home)},
            **{"QT_QPA_PLATFORM": "offscreen", "LIBGL_ALWAYS_SOFTWARE": "1"},
        }
        server.terminate()


@contextmanager
def pressing(key: str, environment: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen([PYTHON, REAL / "press.py", key], env=environment) as process:
        yield
        process.terminate()


@pytest.fixture
def console(running: Running) -> Iterator[Console]:
    """A session with run 1, as ``mindsight stream`` declares it, and a decoder that answers."""
    bus = Bus.from_settings(running.settings)
    key = running.keys["experimenter"]
    with Console(running.url, key, spool_dir=running.settings.data_dir / "spool") as console:
        console.open_session(console.enrol())
        console.start_run(1, task="pictures", tr_s=1.5, n_volumes=100)
        console.send(Volume(np.full((4, 4, 2), 100, np.int16), np.diag([3.0, 3, 3, 1]), 1.5, 1, 0, acquired_s=0.0))
        with answering(running, bus, console.session):
            yield console
    bus.close()


def pictures(folder: Path, n: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"scene-{k:03d}.png" for k in range(n)]
    for k, file in enumerate(files):
        file.write_bytes(png_bytes(np.full((8, 8, 3), 60 * k, np.uint8)))
    return files


def run(command: list[str | Path], environment: dict[str, str], folder: Path) -> None:
    said = folder / "said.txt"
    with (
        said.open("w") as file,
        subprocess.Popen(
            [PYTHON, *command], env=environment, cwd=folder, stdout=file, stderr=file, start_new_session=True
        ) as process,
    ):
        try:
            code = process.wait(DEADLINE_S)
        finally:  # PsychoPy starts processes of its own
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, said.read_text()[-3000:]


def events_of(running: Running, session: str) -> list[EventAdded]:
    with Session(running.url, running.keys["experimenter"], session) as watched:
        return [message for message in watched.messages() if isinstance(message, EventAdded)]


@pytest.fixture
def environment(running: Running, display: dict[str, str]) -> dict[str, str]:
    return {**display, "MINDSIGHT_URL": running.url, "MINDSIGHT_KEY": running.keys["experimenter"]}


def test_the_task_shows_images_in_time_and_logs_what_was_decoded(
    running: Running, console: Console, environment: dict[str, str], tmp_path: Path
) -> None:
    pictures(tmp_path / "pictures", 3)
    log, task = tmp_path / "task.csv", ROOT / "examples" / "psychopy_task.py"
    with pressing("5", environment):
        run([task, console.session, tmp_path / "pictures", "--trials", "3", "--log", log], environment, tmp_path)
    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert [row["decoded"] + ".png" for row in rows] == [row["image"] for row in rows]
    events = events_of(running, console.session)
    assert [event.candidate for event in events] == [Path(row["image"]).stem for row in rows]
    for k, (event, row) in enumerate(zip(events, rows, strict=True)):
        assert event.onset_s >= 6.0 + 4.0 * k
        assert event.onset_s == pytest.approx(float(row["onset_s"]), abs=0.001), "what was on the screen, however late"


def test_builder_makes_a_program_of_the_component_that_declares_each_image_and_has_its_result(
    running: Running, console: Console, environment: dict[str, str], tmp_path: Path
) -> None:
    files = pictures(tmp_path / "pictures", 3)
    conditions, program = tmp_path / "conditions.csv", tmp_path / "task.py"
    conditions.write_text("image_file,scene\n" + "".join(f"{file},{file.stem}\n" for file in files))
    components = tmp_path / "psychopy_builder"
    shutil.copytree(ROOT / "examples" / "psychopy_builder", components, ignore=shutil.ignore_patterns("__pycache__"))
    run([REAL / "builder_experiment.py", console.session, components, conditions, program], environment, tmp_path)
    began_s = time.monotonic()
    run([program], environment, tmp_path)
    took_s = time.monotonic() - began_s
    (table,) = (tmp_path / "data").glob("*.csv")
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    rows = [row for row in csv.DictReader(lines) if row["scene"]]
    assert [row["decoder.decoded"] for row in rows] == [file.stem for file in files]
    assert all(float(row["decoder.confidence"]) == 0.8 for row in rows)
    events = events_of(running, console.session)
    assert [(event.trial, event.candidate) for event in events] == [(k + 1, file.stem) for k, file in enumerate(files)]
    # seconds of the run, not of the program: 0.5 s of an image and 3 s of waiting lie between two
    assert 0.0 <= events[0].onset_s < 1.0
    for earlier, later in itertools.pairwise(events):
        assert later.onset_s - earlier.onset_s == pytest.approx(3.5, abs=0.3)
    assert took_s > 3 * 3.5, "each routine lasts as long as its component says"
    with suppress(FileNotFoundError):
        assert "did not take" not in next((tmp_path / "data").glob("*.log")).read_text()
