"""A training step of MindEye2 with all losses, beside the plain form of the same losses: time, memory, and agreement.

    python benchmarks/bench_training.py [--scale 8] [--rounds 5] [--whole] [--no-history]

``--scale 8`` is an eighth of the published widths and an eighth of the tokens, with two subjects and random weights;
the low-level head has one size and keeps it. ``--whole`` is a quarter. Both forms start from the same weights with the
same draws; before anything is timed, their losses without dropout are compared. Memory is the most that a process of
its own has in use in three steps: weights, gradients, the optimiser's state, activations.

Ours in bfloat16 and with half the memory are what a card runs. On a processor half the memory takes longer, since every
step reads and writes 8-bit blocks; the memory of a card is counted in ``tests/training/pretraining``.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import report
import torch
from plain_training import PlainTraining, own_weights

from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout
from training.course.team import Team
from training.pretraining.batches import Part
from training.pretraining.config import Config
from training.pretraining.objective import Draws, part_losses
from training.pretraining.targets import LowlevelBatch
from training.pretraining.train import Material, Pretraining

VOXELS, HIDDEN, TOKENS, DIM, HEADS, INNER = 15_724, 4096, 256, 1664, 32, 6656
BATCH, SUBJECTS = 24, 2
TEMPERATURE = 0.005
OURS = {
    "ours": {"precision": "float32"},
    "ours, bfloat16": {"precision": "bfloat16"},
    "ours, half memory": {"precision": "bfloat16", "memory": "half"},
}
PLAIN = "plain"


@dataclass
class Given:
    """One part, the same each time."""

    made: Part

    def part(self, number: int) -> Part:
        return self.made


def layout_of(scale: int) -> Layout:
    return Layout(
        voxels=(VOXELS // scale,) * SUBJECTS,
        hidden=HIDDEN // scale,
        tokens=TOKENS // scale,
        dim=DIM // scale,
        lowlevel=True,
        prior=PriorLayout(depth=6, heads=HEADS // scale, dim_head=52, inner=INNER // scale),
    )


def random_part(layout: Layout) -> Part:
    rng = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    low = LowlevelBatch(normal(BATCH, 4, 28, 28), normal(BATCH, 49, 512), normal(BATCH, 49, 512))
    betas = tuple(normal(BATCH // SUBJECTS, voxels) for voxels in layout.voxels)
    return Part(0, betas, tuple(map(str, range(BATCH))), normal(BATCH, layout.tokens, layout.dim), low)


def make(form: str, layout: Layout, part: Part) -> Callable[[], object]:
    """One step of the form, again and again."""
    torch.manual_seed(0)
    model = MindEye2(layout)
    if form == PLAIN:
        assert layout.prior is not None
        plain = PlainTraining(own_weights(model), layout.prior.heads)
        draws = Draws.of(part, 0, True, "cpu")
        return lambda: plain.step(part, draws, TEMPERATURE)
    given = {"out": "run", "steps": 100_000, "batch": BATCH, "learning_rate": 1e-4, "data": [{"kind": "simulated"}]}
    config = Config.model_validate(given | {"evaluate_every": 100_000} | OURS[form])
    training = Pretraining(config, model, Material(cast(Any, Given(part)), [], []), Team())
    return training.advance


def difference(layout: Layout, part: Part) -> dict[str, float]:
    """Relative difference of the losses of both forms without dropout, mixed and not."""
    torch.manual_seed(0)
    model = MindEye2(layout).eval()
    assert layout.prior is not None
    plain = PlainTraining(own_weights(model), layout.prior.heads, dropout=0.0)
    apart = {}
    for name, mixed in (("BiMixCo", True), ("SoftCLIP", False)):
        draws = Draws.of(part, 0, mixed, "cpu")
        ours = part_losses(model, part, draws, TEMPERATURE, torch.float32)["loss"].item()
        theirs = plain.loss(part, draws, TEMPERATURE).item()
        apart[name] = abs(ours - theirs) / abs(theirs)
    return apart


def child(form: str, scale: int) -> None:
    """Print the most megabytes that were in use in three steps, above what the libraries take."""
    torch.set_num_threads(1)
    layout = layout_of(scale)
    before = _in_use("VmRSS")
    step = make(form, layout, random_part(layout))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # what was needed to make the model does not count
    for _ in range(3):
        step()
    print(json.dumps(round((_in_use("VmHWM") - before) / 1024)))


def _in_use(which: str) -> int:
    """Kilobytes, as Linux counts them."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0])


def memory_mb(form: str, scale: int) -> int:
    command = [sys.executable, __file__, "--scale", str(scale), "--child", form]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = report.parser(__doc__, whole="a quarter of the published widths")
    parser.add_argument("--scale", type=int, default=8, help="by what published widths are divided")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=(PLAIN, *OURS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child, given.scale)
    began, scale = report.machine(), 4 if given.whole else given.scale
    torch.set_num_threads(1)
    layout = layout_of(scale)
    part = random_part(layout)
    apart = difference(layout, part)
    print("losses of both forms differ by " + ", ".join(f"{value:.1e} ({name})" for name, value in apart.items()))
    forms = (PLAIN, *OURS)
    clocks = report.in_turn({form: make(form, layout, part) for form in forms}, given.rounds)
    rows = report.compared(clocks, ours={PLAIN: "ours"})
    report.print_table(f"one step of {BATCH} trials, all losses, 1/{scale} of the published widths", rows)
    memory = {form: memory_mb(form, scale) for form in forms}
    print("\nMB in use at most: " + ", ".join(f"{form} {mb:,}" for form, mb in memory.items()))
    report.finish("training", given, began, ("torch",), scale=scale, difference=apart, steps=rows, memory_mb=memory)
    return None


if __name__ == "__main__":
    main()
