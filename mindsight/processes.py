"""How the project starts its own processes: by module name, and never from the working directory.

``python -m`` alone looks for the module in the working directory first, where a laboratory may well keep a
``training.py`` of its own. ``-P`` leaves that folder out.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8  # malloc.h


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this Python."""
    return [sys.executable, "-P", "-m", module, *arguments]


def ending_with_parent() -> Callable[[], None] | None:
    """For ``Popen(preexec_fn=...)``: the child gets SIGTERM when this process ends, however that happens.

    Linux only (prctl PR_SET_PDEATHSIG); None elsewhere. The signal follows the thread that starts the child, so that
    thread must live as long as the child may. Where the parent is gone before the signal is set, the child ends itself.
    """
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def follow_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return follow_parent


def end_with_parent() -> None:
    """This process gets SIGTERM when the one that started it ends. Linux only; nothing elsewhere."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def share_freed_memory() -> None:
    """The threads of this process take from two pools of freed memory. To be called before they start.

    glibc gives each thread a pool of its own otherwise (up to eight for each core), and each keeps the most that its
    thread ever needed. Elsewhere nothing is done.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


def return_free_memory() -> None:
    """Give the system what this process has freed. The C library keeps it otherwise, in pieces between what is used.

    glibc only (malloc_trim); nothing elsewhere. It takes milliseconds, in which others may compute.
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def process_name() -> str:
    """A name of this process that no other has: machine and boot, process number, start.

    Where ``/proc`` does not tell them, the process number alone.
    """
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(name: str) -> bool:
    """Whether the process with this ``process_name`` has ended: False unless this machine knows."""
    with suppress(ValueError):
        machine, number, started = name.rsplit("/", 2)
        return bool(machine) and machine == _machine() and _started(int(number)) != started
    return False


def _machine() -> str:
    """Boot of this machine and the space of its process numbers, which a container has of its own; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(number: int) -> str:
    """When a process started, in ticks since boot; "" if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
