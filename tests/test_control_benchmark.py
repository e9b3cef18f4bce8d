"""benchmarks/bench_control.py at tiny size: every volume's message arrives, and every figure is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "bench_control.py"


@pytest.mark.slow
def test_the_command_runs_at_tiny_size() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--sessions", "5", "--seconds", "2", "--no-history"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    row = next(line for line in done.stdout.splitlines() if line.startswith("5 sessions: due to message"))
    assert row.split()[5] == "10"
    whats = ("plain SETs a second", "an hour of one session", "a look of one more worker", "sessions that are over")
    for what in (*whats, "extrapolated"):
        assert what in done.stdout
