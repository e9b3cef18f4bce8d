"""The samplers that have names, and the plan of each.

Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

from mindsight.errors import BadRequest
from mindsight.generators.sampling.guidance import Guidance
from mindsight.generators.sampling.plan import SamplerPlan, tabulate
from mindsight.generators.sampling.schedule import Grid, even, karras, trailing
from mindsight.generators.sampling.solvers import SolverName


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A sampler's numbers.

    steps : as published; the same sampler can be asked for in another number
    needs_start : whether it starts from an image
    """

    grid: Callable[[int], Grid]
    solver: SolverName
    steps: int
    guidance: Guidance
    needs_start: bool = False


START_SIGMA = 1.0  # a blurred image is kept up to about here; from 4 on its layout is lost

PRESETS = {
    "reference": Preset(grid=even, solver="euler", steps=38, guidance=Guidance.full(5.0)),
    "fast": Preset(grid=karras, solver="unipc", steps=8, guidance=Guidance.interval(5.0, 0, 3)),
    "sdedit": Preset(
        grid=partial(karras, first_sigma=START_SIGMA),
        solver="unipc",
        steps=4,
        guidance=Guidance.off(),
        needs_start=True,
    ),
    "distilled": Preset(grid=trailing, solver="euler", steps=4, guidance=Guidance.off()),
}
"""``reference``: MindEye2's own (Scotti et al. 2024). ``fast``: nearer to the exact solution in a fifth of the steps.
``sdedit``: from the low-level image (Meng et al. 2022, arXiv 2108.01073). ``distilled``: two to four steps of weights
that were trained for them.
"""


def preset_of(name: str) -> Preset:
    """Raises BadRequest (``generator.preset``)."""
    if name not in PRESETS:
        raise BadRequest(f"expected a preset of {', '.join(PRESETS)}, got {name!r}", code="generator.preset")
    return PRESETS[name]


@lru_cache
def plan(preset: str, steps: int | None = None) -> SamplerPlan:
    """The table of a preset, in its own number of steps or another.

    Raises BadRequest (``generator.preset``).
    """
    found = preset_of(preset)
    return tabulate(found.grid(found.steps if steps is None else steps), found.solver, found.guidance)


def preview_after(steps: int) -> int:
    """How many of a sampler's steps come before its preview: a quarter, and at least one; 0 if there is only one."""
    return max(1, steps // 4) if steps > 1 else 0
