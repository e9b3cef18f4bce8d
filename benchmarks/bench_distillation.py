"""A student of four and two steps beside its teacher of 38: fidelity and speed on one table, at small size.

    python benchmarks/bench_distillation.py [--work FOLDER] [--whole] [--no-history]

The teacher is a small unCLIP of the released layout that predicts noise and is sampled with guidance of 5
(``training/recipes/small_unclip.py``: scenes of 32 pixels, the demo encoder's tokens). It is trained first, then
distilled, and both are measured on scenes that neither saw. ``--work`` keeps the folder, and takes a teacher that is
there. ``--whole`` also trains all weights of a second student, beside the low-rank changes of the first.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import report

from training.distillation.command import distil
from training.distillation.config import Config
from training.distillation.fidelity import as_json, table
from training.distillation.team import Team
from training.recipes.small_unclip import Recipe, make

STUDENTS: dict[str, dict[str, Any]] = {
    "low-rank": {"rank": 16, "learning_rate": 1e-3},
    "all": {"learning_rate": 2e-4},
}


def main() -> None:
    parser = report.parser(__doc__, whole="also a student whose weights are all trained")
    parser.add_argument("--work", type=Path, help="folder to keep teacher and students in")
    given = parser.parse_args()
    began = report.machine()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(given.work or Path(scratch), ["low-rank", "all"] if given.whole else ["low-rank"])
    report.finish("distillation", given, began, ("torch", "diffusers"), **figures)


def measure(work: Path, students: list[str]) -> dict[str, Any]:
    """Train what is not there yet; the figures of each student, and seconds of processor time."""
    figures: dict[str, Any] = {}
    started_s = time.process_time()
    if not (work / "unclip").exists():
        make(work, Recipe())
        figures["teacher_cpu_s"] = round(time.process_time() - started_s)
    for weights in students:
        config = Config(
            teacher=work / "unclip", pool=work / "pool", images=work / "scenes.h5", out=work / weights,
            steps=400, batch=16, weights=weights, precision="float32", held_out=Recipe().held_out, **STUDENTS[weights],
        )  # fmt: skip
        started_s = time.process_time()
        fidelity = distil(config, Team())
        assert fidelity is not None
        print(f"\n{weights}\n\n{table(fidelity)}")
        figures[weights] = {"cpu_s": round(time.process_time() - started_s), **as_json(fidelity)}
    return figures


if __name__ == "__main__":
    main()
