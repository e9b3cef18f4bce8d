"""A disk that is full where the logs are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.ingest.session_process import Ended

FULL = Path("/dev/full")
FORKED = """
import multiprocessing, sys
from mindsight.printing import outlive_full_logs

def lead():
    outlive_full_logs()
    print("the disk is full", flush=True)
    print("the disk is full", file=sys.stderr, flush=True)
    sys.exit({code})

process = multiprocessing.get_context("fork").Process(target=lead)
process.start()
process.join()
sys.exit(process.exitcode)
"""


@pytest.mark.skipif(not FULL.exists(), reason="writes to a full disk need /dev/full")
def test_a_full_disk_of_the_logs_changes_no_exit_code() -> None:
    """An exit code that says nothing counts as an end by the input: the third time it is put in quarantine."""
    with FULL.open("w") as full:
        command = [sys.executable, "-c", FORKED.format(code=int(Ended.LATER))]
        assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == Ended.LATER
