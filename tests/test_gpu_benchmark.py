"""benchmarks/gpu.py at small size: every section measures its rows, and none takes another's with it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
GIVEN = Namespace(small=True)
without_a_card = pytest.mark.skipif(torch.cuda.is_available(), reason="names what a machine without a card cannot do")


@pytest.fixture(scope="module")
def gpu() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("gpu")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def rows(gpu: Any) -> dict[str, dict[str, Any]]:
    """Of all sections that need no compiler, each row measured once."""
    child, bench = (importlib.import_module(name) for name in ("gpu_child", "gpu_bench"))
    found: dict[str, dict[str, Any]] = {}

    def keep(name: str, **figures: Any) -> None:
        assert name not in found
        found[name] = json.loads(json.dumps(figures))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "FEWEST", 1)
        for section in [name for name in gpu.RESERVED_S if name != "whole"]:
            known = {name: row["value"] for name, row in found.items() if "value" in row}
            module = importlib.import_module(child.MODULES[section])
            for one in {bench, module}:
                if hasattr(one, "emit"):
                    patch.setattr(one, "emit", keep)
            getattr(module, section)(bench.Bench(small=True, known=known))
    return found


@pytest.mark.slow
@without_a_card
def test_every_section_measures(rows: dict[str, dict[str, Any]]) -> None:
    failed = {name: row["error"] for name, row in rows.items() if "error" in row}
    of_a_card = {"graphed, all", "compiled, all", "a step, compiled", "a step, in 8 bits"}
    assert {name for name in failed if "attention" not in name} == of_a_card
    assert all("CUDA card for the engine" in failed[name] for name in of_a_card)
    timed = {name: row for name, row in rows.items() if "median" in row}
    assert len([name for name in timed if name.endswith(", eager")]) == 2 * 2 * 4
    assert all(row["median"] > 0.0 and row.get("finite", True) for row in timed.values())
    assert {
        name for name, row in timed.items() if name.startswith(("32 px", "64 px", "prior")) and "floor_ms" not in row
    } == set()
    assert rows["motion, one volume from the host"]["error_mm"] < 0.1


@pytest.mark.slow
def test_targets_are_met_missed_or_not_measured(gpu: Any, rows: dict[str, dict[str, Any]]) -> None:
    """By the names that the sections give: those of the full size, times as they are asked, and one missing."""
    measured = {
        "voxels to ranking": {"median": 4.0},
        "prior, 20 steps": {"median": 20.0, "floor_ms": 5.0},
        "768 px, 1 x distilled, eager": {"median": 160.0, "floor_ms": 20.0},
        "768 px, 1 x distilled, compiled": {"median": 40.0, "floor_ms": 20.0},
        "768 px, 1 x reference, as published": {"median": 4000.0},
        "768 px, 1 x reference, graphed": {"median": 500.0},
        "512 px, 1 x fast, compiled": {"error": "no time"},
    }
    for name in measured:
        small = name.replace("768 px", "64 px").replace("512 px", "32 px")
        assert small in rows or small.rsplit(", ", 1)[1] in ("graphed", "compiled"), small
    verdicts = gpu.print_targets(measured)
    assert [verdict.split(" ")[0] for verdict in verdicts.values()] == [
        "met",
        "missed",
        "met",
        "met",
        "not",
        "met",
        "missed",
    ]


@pytest.mark.slow
def test_a_section_that_fails_or_takes_too_long_says_so_in_one_line(
    gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = [gpu.Section(name, GIVEN, {}) for name in ("none", "ceilings")]
    late = sections[1].run(0.1)
    assert (late, sections[1].process.poll()) == ("ended at its deadline of 0 s", -9)
    assert sections[0].run(60.0) == "ended with 1: KeyError: 'none'"


@pytest.mark.slow
def test_the_command_runs_at_small_size() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "--small"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a step, compiled as a whole" in done.stdout
    assert "voxels to ranking, ms" in done.stdout
    assert "(at least)   not measured" in done.stdout
