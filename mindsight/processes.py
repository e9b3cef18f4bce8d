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

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


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

    def end_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return end_with_parent
