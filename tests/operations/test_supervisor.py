"""The supervisor's processes: one that is killed comes back, and all of them stop in order, quickly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindsight.errors import BadRequest, BusUnavailable, Conflict, MindsightError
from mindsight.operations.supervisor import Supervisor
from mindsight.processes import module_command
from mindsight.settings import Settings
from support.ports import free_port

DECOYS = ("training", "service", "workers", "mindsight")


@contextlib.contextmanager
def working_among_decoys(folder: Path) -> Iterator[Path]:
    """A working directory with modules of our names, as a machine-learning laboratory may well have; each leaves a
    mark when it is run."""
    for name in DECOYS:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'run')!r}, 'a').write('{name}')\nraise SystemExit(9)\n")
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture
def folder_with_decoys(tmp_path: Path) -> Iterator[Path]:
    with working_among_decoys(tmp_path) as folder:
        yield folder


@dataclass
class Ended:
    """A service that was started and stopped: its folder, whether all parts lived after a kill, its output."""

    folder: Path
    restarted: bool
    all_lived: bool
    exit_codes: list[int | None]
    lines: list[str]
    logs_dir: Path


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    lines: list[str] = []
    with working_among_decoys(tmp_path_factory.mktemp("decoys")) as folder:
        supervisor = Supervisor(
            Settings(data_dir=folder / "data", port=0), announce=lines.append, parts=("bus", "gateway", "ingest")
        )
        supervisor.start()
        try:
            killed, away = supervisor.process("bus"), folder / "away"
            supervisor.logs_dir.rename(away)  # as on a disk that cannot be written for a while
            os.kill(killed.pid, signal.SIGKILL)
            time.sleep(0.5)
            away.rename(supervisor.logs_dir)
            until = time.monotonic() + 20.0
            while supervisor.process("bus").pid == killed.pid and time.monotonic() < until:
                time.sleep(0.1)
            time.sleep(1.0)
            parts = [supervisor.process(part) for part in ("bus", "gateway", "ingest")]
            restarted, all_lived = parts[0].pid != killed.pid, all(part.poll() is None for part in parts)
        finally:
            supervisor.stop()
    return Ended(folder, restarted, all_lived, [part.returncode for part in parts], lines, supervisor.logs_dir)


def test_a_killed_part_comes_back_and_all_stop_in_order(ended: Ended) -> None:
    """Also if it could not be started at first: what watches over the parts is never without them."""
    assert ended.restarted
    assert ended.all_lived
    # SIGTERM was enough for each, also for the one that the supervisor started again
    assert ended.exit_codes == [0, 0, 0]
    assert sum("key: ms_" in line for line in ended.lines) == 5
    assert "ms_" not in "".join(path.read_text() for path in ended.logs_dir.iterdir())


def test_what_the_service_writes_is_for_its_user_alone(ended: Ended) -> None:
    written = [path for path in (ended.folder / "data").rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if path.stat().st_mode & 0o077] == []
    assert (ended.folder / "data").stat().st_mode & 0o077 == 0


def test_no_process_runs_a_module_of_the_working_directory(ended: Ended) -> None:
    assert not (ended.folder / "run").exists()


@pytest.mark.parametrize(
    "command", ["calibrate", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ingest", "infer"))]
)
def test_no_command_runs_a_module_of_the_working_directory(folder_with_decoys: Path, command: str) -> None:
    # the settings are wrong, so that a worker reports it and ends
    code = "import sys; from mindsight.cli import main; sys.argv[0] = 'mindsight'; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, command],
        env={**os.environ, "MINDSIGHT_PORT": "none"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode not in (0, 9)
    assert not (folder_with_decoys / "run").exists()


def test_without_p_the_decoy_would_run(folder_with_decoys: Path) -> None:
    command = [part for part in module_command("training.calibration") if part != "-P"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 9
    assert (folder_with_decoys / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "from mindsight.processes import ending_with_parent\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "child = subprocess.Popen(sleep, preexec_fn=ending_with_parent())\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        until = time.monotonic() + 10.0
        while _is_alive(child) and time.monotonic() < until:
            time.sleep(0.02)
    assert not _is_alive(child)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_service_on_a_folder_is_refused_within_a_second_and_touches_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0)
    first = Supervisor(settings, announce=lambda _: None, parts=("bus", "gateway"))
    url = first.start()
    try:
        before = {path: path.stat().st_mtime_ns for path in settings.data_dir.rglob("gateway.*")}
        began_s = time.monotonic()
        with pytest.raises(Conflict, match=url) as refused:
            Supervisor(settings, announce=lambda _: None, parts=("bus", "gateway")).start()
        assert time.monotonic() - began_s < 1.0
        assert refused.value.code == "service.running"
        assert {path: path.stat().st_mtime_ns for path in settings.data_dir.rglob("gateway.*")} == before
        assert all(first.process(part).poll() is None for part in ("bus", "gateway"))
    finally:
        first.stop()
    again = Supervisor(settings, announce=lambda _: None, parts=("bus", "gateway"))
    again.start()
    again.stop()


def test_a_taken_port_is_reported_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = Supervisor(
            Settings(data_dir=tmp_path / "data", port=port), announce=lambda _: None, parts=("bus", "gateway")
        )
        with pytest.raises(MindsightError, match=f"gateway could not start: .*cannot listen on 127.0.0.1:{port}"):
            supervisor.start()
    assert supervisor.restarts <= 2


def test_a_bus_of_the_site_that_does_not_answer_is_told_before_anything_is_started(tmp_path: Path) -> None:
    address = f"redis://:secret@127.0.0.1:{free_port()}/0"
    supervisor = Supervisor(Settings(data_dir=tmp_path / "data", redis_url=address))
    began_s = time.monotonic()
    with pytest.raises(BusUnavailable, match="MINDSIGHT_REDIS_URL") as error:
        supervisor.start()
    assert time.monotonic() - began_s < 20.0
    assert "secret" not in str(error.value)
    assert not list(supervisor.logs_dir.glob("*.log"))


@pytest.mark.parametrize("name", ["file", "file/data"])
def test_a_data_folder_that_cannot_be_made_is_told_by_its_setting(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BadRequest, match="MINDSIGHT_DATA_DIR") as error:
        Supervisor(Settings(data_dir=tmp_path / name)).start()
    assert error.value.code == "service.data_dir"


def test_a_killed_part_is_started_at_once_and_one_that_always_ends_once_a_second(tmp_path: Path) -> None:
    starts: list[float] = []
    seconds = ["60", "0", "0", "60"]  # for which each process runs

    class Counted(Supervisor):
        def _spawn(self, part: str) -> None:
            starts.append(time.monotonic())
            self._started_s[part] = starts[-1]
            self._processes[part] = subprocess.Popen(["sleep", seconds[len(starts) - 1]])

    supervisor = Counted(Settings(data_dir=tmp_path), announce=lambda _: None)
    supervisor._spawn("part")
    thread = threading.Thread(target=supervisor._keep_alive)
    thread.start()
    time.sleep(1.5)
    killed_s = time.monotonic()
    supervisor.process("part").kill()
    while len(starts) < 4 and time.monotonic() < killed_s + 30.0:
        time.sleep(0.02)
    supervisor._stopped.set()
    thread.join()
    supervisor.process("part").kill()
    supervisor.process("part").wait()
    assert starts[1] - killed_s < 1.0
    assert min(starts[2] - starts[1], starts[3] - starts[2]) >= 1.0
    assert len(starts) == 4
