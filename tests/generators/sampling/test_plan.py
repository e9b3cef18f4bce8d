"""The table against the loops it was read off."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from mindsight.generators.sampling.plan import LinearPlan
from mindsight.generators.unclip.demo import noise_schedule
from support.tolerance import rounding

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "demo": noise_schedule,
    "ddim noise": lambda: diffusers.DDIMScheduler(**SDXL, timestep_spacing="trailing", clip_sample=False),
    "euler karras": lambda: diffusers.EulerDiscreteScheduler(**SDXL, use_karras_sigmas=True),
    "dpm++ 2m karras": lambda: diffusers.DPMSolverMultistepScheduler(**SDXL, use_karras_sigmas=True),
    "unipc karras": lambda: diffusers.UniPCMultistepScheduler(**SDXL, use_karras_sigmas=True),
}


def predict(latent: Tensor, timestep: float) -> Tensor:
    """Anything that is not linear and knows its timestep."""
    return torch.tanh(latent * (0.5 + timestep / 2000.0)) + 0.1 * latent.roll(1, -1)


def diffusers_loop(scheduler: Any, steps: int, noise: Tensor) -> Tensor:
    scheduler.set_timesteps(steps)
    sample = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        prediction = predict(scheduler.scale_model_input(sample, timestep), float(timestep))
        sample = scheduler.step(prediction, timestep, sample).prev_sample
    return sample


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
@pytest.mark.parametrize("steps", [2, 4, 8])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_plan_equals_the_diffusers_loop(name: str, steps: int) -> None:
    noise = torch.randn(2, 12, 8, 8, generator=torch.Generator().manual_seed(3))
    expected = diffusers_loop(SCHEDULERS[name](), steps, noise)
    actual = LinearPlan.probe(SCHEDULERS[name](), steps).run(predict, noise)
    assert expected.abs().max() > 0.1
    assert (actual - expected).abs().max() <= rounding(64 * steps) * max(1.0, float(expected.abs().max()))


def test_a_plan_never_looks_ahead() -> None:
    plan = LinearPlan.probe(noise_schedule(), 4)
    assert plan.steps == 4
    for step, weights in enumerate(plan.inputs_EK):
        assert not weights[1 + step :].any()
