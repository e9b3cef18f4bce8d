from __future__ import annotations

import platform
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


THREADS_ALLOCATE = """
import ctypes, sys, threading
from mindsight.processes import share_freed_memory

if sys.argv[1] == "shared":
    share_freed_memory()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
met, found = threading.Barrier(8), []

def allocate():
    met.wait()
    found.append(malloc(ctypes.c_size_t(1000)) >> 26)  # a thread's own memory lies in blocks of 64 MB
    met.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(set(found)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_threads_share_what_is_freed() -> None:
    def pools(how: str) -> int:
        command = [sys.executable, "-c", THREADS_ALLOCATE, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert pools("shared") <= 2
    assert pools("apart") == 8


def test_modules_are_started_without_the_working_directory() -> None:
    assert module_command("workers.ingest")[1:] == ["-P", "-m", "workers.ingest"]
