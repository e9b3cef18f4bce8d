"""Noise levels of Stable Diffusion, and which of them samplers visit."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.generators.sampling.schedule import alphas_cumprod, even, karras, sigma_at, timestep_at, trailing


def test_levels_are_those_of_diffusers() -> None:
    import diffusers

    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    np.testing.assert_allclose(alphas_cumprod(), scheduler.alphas_cumprod.numpy(), rtol=1e-4)  # theirs is in float32
    assert sigma_at(999) == pytest.approx(14.6146, abs=1e-4)


def test_timesteps_between_integers_are_found_again() -> None:
    timesteps = np.array([0.0, 0.25, 500.5, 998.9])
    np.testing.assert_allclose(timestep_at(sigma_at(timesteps)), timesteps, atol=1e-9)


@pytest.mark.parametrize("grid", [even, trailing, karras])
def test_grids_start_at_pure_noise_and_fall_to_zero(grid: object) -> None:
    assert callable(grid)
    timesteps, sigmas = grid(5)
    assert len(timesteps) == 5
    assert timesteps[0] == pytest.approx(999)
    np.testing.assert_allclose(sigma_at(timesteps), sigmas[:-1], rtol=1e-12)
    assert (np.diff(sigmas) < 0).all()
    assert sigmas[-1] == 0.0


def test_few_trailing_steps_are_those_that_distilled_weights_are_published_with() -> None:
    assert trailing(4)[0].tolist() == [999, 749, 499, 249]
