"""What each preset leaves out of the exact solution, for a score that is known exactly."""

from __future__ import annotations

import pytest

from mindsight.errors import BadRequest
from mindsight.generators.sampling.plan import tabulate
from mindsight.generators.sampling.presets import PRESETS, plan
from mindsight.generators.sampling.schedule import Grid, karras, sigma_at, trailing
from mindsight.generators.sampling.solvers import SolverName
from support.mixture import Mixture, error

N = 64


def test_from_noise() -> None:
    mixture = Mixture()
    noise, largest = mixture.normal(N), float(sigma_at(999))
    exact = mixture.solution(largest * noise, largest)

    def left(preset: str, steps: int | None = None) -> float:
        return error(plan(preset, steps).run(mixture.predict, noise), exact)

    def left_by(grid: Grid, solver: SolverName) -> float:
        return error(tabulate(grid, solver).run(mixture.predict, noise), exact)

    assert left("fast") <= 0.004
    assert left("reference") <= 0.0447  # its own 38 timesteps; at the last of 38 equal parts it is
    assert left_by(trailing(38), "euler") <= 0.044
    assert left("distilled") <= 0.115  # for weights that were trained for it; fast has 0.17 in four steps
    assert left("distilled", 2) <= 0.185
    assert left("fast") < left("fast", 6) <= 0.022
    assert left("fast", 38) < 0.0005
    halved = [left_by(karras(n), "dpm++2m") for n in (10, 20)]
    assert halved[0] <= 0.006
    assert halved[0] > 2.5 * halved[1]  # second order; Euler's factor is two


def test_from_a_blurred_image() -> None:
    mixture = Mixture()
    guess, noise = mixture.draw(N) + 0.25 * mixture.normal(N), mixture.normal(N)
    table = plan("sdedit")
    exact = mixture.solution(guess + table.sigmas[0] * noise, float(table.sigmas[0]))
    assert error(table.run(mixture.predict, noise, guess), exact) <= 0.005
    assert PRESETS["sdedit"].needs_start


def test_presets_look_as_often_as_their_description_promises() -> None:
    looks = {name: (plan(name).steps, plan(name).evaluations) for name in PRESETS}
    assert looks == {"reference": (38, 76), "fast": (8, 11), "sdedit": (4, 4), "distilled": (4, 4)}


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(BadRequest, match="reference, fast, sdedit, distilled, got 'slow'"):
        plan("slow")
