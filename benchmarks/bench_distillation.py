"""A student of four and two steps beside its teacher of 38: fidelity and speed on one table, at small size.

    python benchmarks/bench_distillation.py [--weights low-rank|all] [--work FOLDER] [--whole] [--no-history]

The teacher is a small unCLIP of the released layout that predicts noise and is sampled with guidance of 5
(``training/recipes/small_unclip.py``: scenes of 32 pixels, the demo encoder's tokens). It is trained first, then
distilled, and both are measured on scenes that neither saw. ``--work`` keeps the folder, and takes a teacher that is
there. ``--whole`` is minutes of training for each network in place of one minute.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import report

from training.course.team import Team
from training.distillation.command import distil
from training.distillation.config import Config
from training.distillation.fidelity import as_json, table
from training.recipes.small_unclip import Recipe, make

WHOLE, WHOLE_STEPS = Recipe(), 200
SHORT, SHORT_STEPS = Recipe(scenes=1000, held_out=40, vae_steps=700, unet_steps=500), 100
LEARNING_RATE = {"low-rank": 1e-3, "all": 3e-4}


def main() -> None:
    parser = report.parser(__doc__, whole="longer training of teacher and student")
    parser.add_argument("--weights", choices=("low-rank", "all"), default="low-rank", help="which are trained")
    parser.add_argument("--work", type=Path, help="folder to keep teacher and students in")
    given = parser.parse_args()
    began = report.machine()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(given.work or Path(scratch), given.weights, whole=given.whole)
    report.finish("distillation", given, began, ("torch", "diffusers"), weights=given.weights, **figures)


def measure(work: Path, weights: Any, *, whole: bool) -> dict[str, Any]:
    """Every figure, and the seconds of processor time that each part took."""
    recipe, steps = (WHOLE, WHOLE_STEPS) if whole else (SHORT, SHORT_STEPS)
    figures: dict[str, Any] = {}
    started_s = time.process_time()
    if not (work / "unclip").exists():
        make(work, recipe)
        figures["teacher_cpu_s"] = round(time.process_time() - started_s)
    config = Config(
        teacher=work / "unclip", pool=work / "pool", images=work / "scenes.h5", out=work / weights, weights=weights,
        steps=steps, batch=16, learning_rate=LEARNING_RATE[weights], rank=16,
        precision="float32", held_out=recipe.held_out,
    )  # fmt: skip
    started_s = time.process_time()
    fidelity = distil(config, Team())
    assert fidelity is not None
    print(f"\n{table(fidelity)}")
    return figures | {"student_cpu_s": round(time.process_time() - started_s)} | as_json(fidelity)


if __name__ == "__main__":
    main()
