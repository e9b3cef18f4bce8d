"""What ``/proc`` tells of processes (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children() -> dict[int, list[int]]:
    """Numbers of the processes that each process has started."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.setdefault(int(_fields(int(entry.name))[1]), []).append(int(entry.name))
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process; what is left of one that has ended is none."""
    with suppress(OSError):
        return _fields(pid)[0] != "Z"
    return False


def _fields(pid: int) -> list[str]:
    """From the third on: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def anonymous_mb(pid: int) -> float:
    """What the process has for itself: not its code, nor files that it reads."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024.0
    raise OSError(f"process {pid} has ended")
