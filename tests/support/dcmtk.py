"""DCMTK's ``storescu``, another implementation of a sender than the one that the receiver is built on."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def storescu() -> str:
    """Its path; the test is skipped without it. An active environment puts pynetdicom's program of that name first."""
    ours = Path(sys.executable).parent
    elsewhere = [folder for folder in os.get_exec_path() if Path(folder).resolve() != ours.resolve()]
    program = shutil.which("storescu", path=os.pathsep.join(elsewhere))
    if program is None:
        pytest.skip("needs dcmtk's storescu (Debian: apt install dcmtk)")
    return program
