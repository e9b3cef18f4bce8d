"""The loss: its boundary, its solver and its guidance, where the solution is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mindsight.generators.sampling.presets import plan
from training.distillation.consistency import (
    SOLVER_STEPS,
    Batch,
    Evaluate,
    Levels,
    boundary,
    consistent,
    loss,
    solved,
    solver_timestep,
)

SPREAD = 0.5  # standard deviation of the latents
LEVELS = Levels.on("cpu")
N = 400


def draw(n: int = N) -> Batch:
    """Gaussian latents, for which score and solution are linear. The first token's first number is their guidance."""
    generator = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(n, 4, 2, 2, generator=generator) for _ in range(2))
    number = torch.randint(1, SOLVER_STEPS + 1, (n,), generator=generator)
    tokens = torch.ones(n, 1, 1)
    return Batch(SPREAD * clean, tokens, torch.zeros(n, 8), noise, 0.0 * tokens, number * (1000 // SOLVER_STEPS) - 1)


def spread_at(timestep_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    alpha, sigma = (of[timestep_B.long()][:, None, None, None] for of in (LEVELS.alpha_T, LEVELS.sigma_T))
    return alpha, sigma, (alpha * SPREAD).square() + sigma.square()


def exact_score(latent: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
    """The noise to be expected in a latent."""
    _, sigma, variance = spread_at(timestep)
    return latent * sigma / variance


def exact_end(latent: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
    """The noise that leads straight to the end of the solution: a Gaussian keeps its direction and shrinks."""
    alpha, sigma, variance = spread_at(timestep)
    end = latent * SPREAD / variance.sqrt()
    return torch.where(sigma > 0, (latent - alpha * end) / sigma, 0.0)


def loss_of(student: Evaluate) -> float:
    return float(loss(student, exact_score, student, LEVELS, draw(), guidance=1.0))


def test_the_solver_visits_the_timesteps_of_the_preset() -> None:
    visited = {solver_timestep(number) for number in range(1, SOLVER_STEPS + 1)}
    assert (min(visited), max(visited)) == (24, 999)
    for steps in (2, 4):
        assert set(plan("distilled", steps).timesteps.astype(int)) <= visited


def test_at_the_end_the_consistency_function_is_the_latent_itself() -> None:
    latent, wrong = torch.randn(3, 4, 2, 2), torch.full((3, 4, 2, 2), 7.0)
    torch.testing.assert_close(consistent(LEVELS, latent, torch.zeros(3, dtype=torch.long), wrong), latent)


def test_samplers_may_take_the_networks_estimate_alone() -> None:
    skip, out = boundary(torch.tensor([solver_timestep(1)]))
    assert float(skip) < 5e-6
    assert abs(float(out) - 1.0) < 5e-6


def test_a_step_with_the_noise_that_is_there_stays_on_the_way() -> None:
    given = draw()
    earlier = (given.timestep_B - 25).clamp(min=0)
    noisy = LEVELS.noisy(given.clean_BCHW, given.noise_BCHW, given.timestep_B)
    point = solved(LEVELS, noisy, given.timestep_B, earlier, given.noise_BCHW)
    expected = LEVELS.noisy(given.clean_BCHW, given.noise_BCHW, earlier)
    # rounding of a latent of up to 5, divided by the smallest alpha, 0.068
    torch.testing.assert_close(point, expected, atol=5 * 4 * 1.2e-7 / 0.068, rtol=0.0)


def test_the_exact_solution_has_the_least_loss() -> None:
    """What is left is the error of one long step of the solver, and far less than of the clean latent to be expected,
    which is what the teacher's own estimate is.
    """
    assert loss_of(exact_end) < 0.1 * loss_of(exact_score)


def test_guidance_is_the_teachers_alone() -> None:
    given = draw()
    seen: list[int] = []

    def teacher(latent: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        seen.append(len(latent))
        return exact_score(latent, timestep, tokens, vector) * (1.0 + 0.1 * tokens[:, :, :, None])

    def student(latent: Tensor, timestep: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        seen.append(len(latent))
        return exact_end(latent, timestep, tokens, vector)

    found = loss(student, teacher, student, LEVELS, given, guidance=3.0)
    assert seen == [2 * N, N, N]
    # 0.1 for the tokens and nothing for the others: guided by 3, it is 0.3
    expected = loss(
        exact_end, lambda *of: 1.3 * exact_score(*of), exact_end, LEVELS, given, guidance=1.0
    )  # fmt: skip
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
