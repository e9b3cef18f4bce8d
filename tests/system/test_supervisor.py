"""The supervisor's processes: one that is killed comes back, and all of them stop in order, quickly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindsight.processes import module_command
from mindsight.settings import Settings
from mindsight.supervisor import Supervisor


def test_a_killed_part_comes_back_and_all_stop_in_order(tmp_path: Path) -> None:
    lines: list[str] = []
    supervisor = Supervisor(
        Settings(data_dir=tmp_path / "data", port=0), announce=lines.append, parts=("bus", "gateway", "ingest")
    )
    supervisor.start()
    try:
        killed = supervisor.process("bus")
        os.kill(killed.pid, signal.SIGKILL)
        until = time.monotonic() + 20.0
        while supervisor.process("bus").pid == killed.pid and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1.0)
        parts = [supervisor.process(part) for part in ("bus", "gateway", "ingest")]
        assert all(part.poll() is None for part in parts)
    finally:
        supervisor.stop()
    # SIGTERM was enough for each, also for the one that the supervisor started again
    assert [part.returncode for part in parts] == [0, 0, 0]
    assert sum("key: ms_" in line for line in lines) == 4
    assert "ms_" not in "".join(path.read_text() for path in supervisor.logs_dir.iterdir())


DECOYS = ("training", "service", "workers", "mindsight")


@pytest.fixture
def folder_with_decoys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules of our names, as a machine-learning laboratory may well have; each leaves a
    mark when it is run."""
    for name in DECOYS:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'run')!r}, 'a').write('{name}')\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_process_runs_a_module_of_the_working_directory(folder_with_decoys: Path) -> None:
    supervisor = Supervisor(
        Settings(data_dir=folder_with_decoys / "data", port=0),
        announce=lambda _: None,
        parts=("bus", "gateway", "ingest"),
    )
    supervisor.start()
    supervisor.stop()
    assert not (folder_with_decoys / "run").exists()


@pytest.mark.parametrize("command", ["calibrate", "ingest", "infer"])
def test_no_command_runs_a_module_of_the_working_directory(folder_with_decoys: Path, command: str) -> None:
    # the settings are wrong, so that a worker says so and ends
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
    command = [part for part in module_command("training.calibrate") if part != "-P"]
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
