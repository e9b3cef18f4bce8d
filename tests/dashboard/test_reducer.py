"""Runs the page's own tests under node, against messages written by pydantic and figures worked out by Python."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mindsight.accuracy import Accuracy, wilson_interval
from mindsight.protocol.messages import EventAdded, Result, VolumeMissing, VolumeProcessed, dump_message
from mindsight.stages import STAGES
from support.dashboard_record import Record

HERE = Path(__file__).parent
WINDOW = 50


def _rolling(record: Record) -> dict[str, list[dict[str, float]]]:
    """Top-1 of each stage over its last 50 results, in the order in which they came."""
    truth = {(m.run, m.trial): m.candidate for m in record.messages if isinstance(m, EventAdded)}
    rolling: dict[str, list[dict[str, float]]] = {}
    for stage in STAGES:
        results = [m for m in record.messages if isinstance(m, Result) and m.stage == stage]
        hits = [m.candidates[0].id == truth[m.run, m.trial] for m in results]
        rolling[stage] = [
            {"n": a.n, "p": a.value, "low": a.interval[0], "high": a.interval[1]}
            for a in (_of_the_last(hits[: end + 1]) for end in range(len(hits)))
        ]
    return rolling


def _of_the_last(hits: list[bool]) -> Accuracy:
    return Accuracy.of(hits[-WINDOW:], 0.01)


def _usable(record: Record) -> dict[int, dict[str, int]]:
    usable: dict[int, dict[str, int]] = {}
    for m in record.messages:
        if isinstance(m, VolumeProcessed | VolumeMissing):
            of = usable.setdefault(m.run, {"ok": 0, "due": 0})
            of["due"] += 1
            of["ok"] += isinstance(m, VolumeProcessed) and not m.censored
    return usable


def _quantiles() -> list[dict[str, object]]:
    rng = random.Random(3)
    cases = []
    for n in (1, 2, 7, 100):
        values = [rng.gauss(40, 12) for _ in range(n)]
        cases += [{"values": values, "q": q, "expected": float(np.quantile(values, q))} for q in (0.0, 0.5, 0.99, 1.0)]
    return cases


@pytest.fixture(scope="module")
def cases(open_record: Record, blinded_record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for name, it in (("messages", open_record), ("blinded", blinded_record)):
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(dump_message(m) for m in it.messages))
    motion = [m.latency_ms.motion for m in open_record.messages if isinstance(m, VolumeProcessed)]
    wilson = [[k, n, *wilson_interval(k, n)] for n in (0, 1, 2, 5, 20, 63, 1000) for k in {0, n // 3, n // 2, n}]
    expected = {
        "rolling": _rolling(open_record),
        "wilson": wilson,
        "usable": _usable(open_record),
        "quantiles": _quantiles(),
        "motion_ms": motion[-100:],
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    return folder


def test_the_pure_half_of_the_page_under_node(cases: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node 20 or newer to run the page's reducer, which this machine does not have")
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(HERE / "dashboard.test.mjs")],
        env={"MINDSIGHT_CASES": str(cases), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# tests 0" not in done.stdout, done.stdout
