"""The supervisor's processes: one that is killed comes back, and all of them stop in order, quickly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

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
