from __future__ import annotations

import subprocess
import sys

import pytest

from mindsight.processes import is_gone, module_command, process_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process names need /proc")

PRINT_NAME = "import mindsight.processes as p, sys; print(p.process_name(), flush=True); sys.stdin.read()"


def test_a_process_is_gone_when_it_has_ended_and_not_before() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINT_NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert not is_gone(name)
    child.kill()
    child.wait(10)
    assert is_gone(name)
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()


def test_a_number_that_another_process_has_by_now_is_not_the_same_process() -> None:
    machine, number, started = process_name().rsplit("/", 2)
    assert is_gone(f"{machine}/{number}/{int(started) - 1}")


@pytest.mark.parametrize("name", ["", "worker", "another-boot/pid:[1]/1/1", "a/b/c"])
def test_of_a_process_elsewhere_nothing_is_known(name: str) -> None:
    assert not is_gone(name)


def test_modules_are_started_without_the_working_directory() -> None:
    assert module_command("workers.ingest")[1:] == ["-P", "-m", "workers.ingest"]
