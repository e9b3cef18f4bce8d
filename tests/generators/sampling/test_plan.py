"""Tables against the loops that they stand for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.generators.sampling.guidance import Guidance
from mindsight.generators.sampling.plan import Predicts, tabulate
from mindsight.generators.sampling.schedule import even, karras, trailing
from mindsight.generators.sampling.solvers import SolverName
from support.tolerance import rounding

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EULER, MULTISTEP, UNIPC = "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
PEERS: dict[str, tuple[str, dict[str, Any], SolverName, Predicts]] = {
    "euler trailing": (EULER, {"timestep_spacing": "trailing"}, "euler", "noise"),
    "euler karras": (EULER, {"use_karras_sigmas": True}, "euler", "noise"),
    "euler clean": (EULER, {"timestep_spacing": "trailing", "prediction_type": "sample"}, "euler", "clean"),
    "dpm++ 2m karras": (MULTISTEP, {"use_karras_sigmas": True}, "dpm++2m", "noise"),
    "unipc karras": (UNIPC, {"use_karras_sigmas": True}, "unipc", "noise"),
}


def predict(latent: Tensor, timestep: float) -> Tensor:
    """Anything that is not linear and knows its timestep."""
    return torch.tanh(latent * (0.5 + timestep / 2000.0)) + 0.1 * latent.roll(1, -1)


def noise_of(seed: int) -> Tensor:
    return torch.randn(2, 12, 8, 8, generator=torch.Generator().manual_seed(seed))


def diffusers_loop(scheduler: Any, sample: Tensor) -> Tensor:
    for timestep in scheduler.timesteps:
        prediction = predict(scheduler.scale_model_input(sample, timestep), float(timestep))
        sample = scheduler.step(prediction, timestep, sample).prev_sample
    return sample


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
@pytest.mark.parametrize("steps", [2, 4, 8])
@pytest.mark.parametrize("name", PEERS)
def test_a_table_gives_what_the_loop_of_diffusers_gives(name: str, steps: int) -> None:
    import diffusers

    kind, options, solver, predicts = PEERS[name]
    scheduler = getattr(diffusers, kind)(**SDXL, **options)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().numpy()
    noise = noise_of(3)
    first = noise * float(sigmas[0])  # theirs is in another scale where the scheduler is not Euler's
    expected = diffusers_loop(scheduler, first if "euler" in name else first / math.hypot(1.0, sigmas[0]))
    table = tabulate((scheduler.timesteps.double().numpy(), sigmas), solver, predicts=predicts)
    actual = table.run(lambda latent, timestep, _: (predict(latent, timestep),), noise)
    assert expected.abs().max() > 0.1
    # both add in float32 what is as large as the noise, and end at the latent's scale
    scale = max(1.0, float(expected.abs().max()))
    assert (actual - expected).abs().max() <= rounding(64 * steps, condition=float(sigmas[0])) * scale


GUIDANCES = {
    "off": (Guidance.off(), [False] * 4),
    "full": (Guidance.full(5.0), [True] * 4),
    "interval": (Guidance.interval(5.0, 1, 3), [False, True, True, False]),
    "one-time": (Guidance.one_time(5.0), [True, False, False, False]),
}


@pytest.mark.parametrize("name", GUIDANCES)
def test_guidance_is_what_euler_steps_by_hand_give(name: str) -> None:
    guidance, guided = GUIDANCES[name]
    timesteps, sigmas = even(4)
    noise = noise_of(4)
    sample, kept = noise * float(sigmas[0]), torch.zeros_like(noise)
    for step, timestep in enumerate(timesteps):
        sigma = float(sigmas[step])
        latent = sample / math.hypot(1.0, sigma)
        chosen = predict(latent, timestep)
        if guided[step]:
            kept = sample - sigma * predict(-latent, timestep)  # of the unconditional tokens
        if guided[step] or guidance.once:
            unguided = (sample - kept) / sigma
            chosen = unguided + 5.0 * (chosen - unguided)
        sample = sample + (float(sigmas[step + 1]) - sigma) * chosen
    table = tabulate(even(4), "euler", guidance)
    assert list(table.guided) == guided
    assert table.evaluations == 4 + sum(guided)

    def both(latent: Tensor, timestep: float, guided: bool) -> tuple[Tensor, ...]:
        return (predict(-latent, timestep), predict(latent, timestep))[not guided :]

    scale = float(sample.abs().max())
    assert (table.run(both, noise) - sample).abs().max() <= rounding(64 * 4, condition=float(sigmas[0])) * scale


@pytest.mark.parametrize("solver", ["euler", "dpm++2m", "unipc"])
def test_a_table_never_looks_ahead(solver: SolverName) -> None:
    table = tabulate(karras(4), solver, Guidance.interval(3.0, 0, 2))
    known = 2
    for step, guided in enumerate(table.guided):
        assert not table.inputs_EK[step, known:].any()
        known += 1 + guided
        assert not table.cleans_EK[step, known:].any()


def test_a_start_is_where_the_noise_is_added() -> None:
    start, noise = noise_of(5), noise_of(6)
    seen: list[Tensor] = []

    def remember(latent: Tensor, timestep: float, guided: bool) -> tuple[Tensor, ...]:
        seen.append(latent)
        return (noise,)

    result = tabulate(karras(3, first_sigma=1.5), "unipc").run(remember, noise, start)
    torch.testing.assert_close(seen[0], (start + 1.5 * noise) / math.hypot(1.0, 1.5))
    torch.testing.assert_close(result, start, atol=1e-5, rtol=1e-5)  # all noise was found


def test_sums_are_kept_in_float32_and_on_the_device_of_the_noise() -> None:
    dtypes = set()

    def half(latent: Tensor, timestep: float, guided: bool) -> tuple[Tensor, ...]:
        dtypes.add(latent.dtype)
        return (latent.to(torch.bfloat16),)

    result = tabulate(trailing(3)).run(half, torch.empty(1, 4, 2, 2, device="meta", dtype=torch.bfloat16))
    assert (result.dtype, result.device.type, dtypes) == (torch.float32, "meta", {torch.float32})


def test_estimates_come_as_soon_as_they_are_known() -> None:
    calls = []

    def count(latent: Tensor, timestep: float, guided: bool) -> tuple[Tensor, ...]:
        calls.append(timestep)
        return (predict(latent, timestep),)

    noise, table = noise_of(7), tabulate(trailing(4))
    estimates = table.estimates(count, noise, after=(1, 4))
    early = next(estimates)
    assert calls == [999.0]
    sigma = float(table.sigmas[0])
    expected = sigma * noise - sigma * predict(sigma * noise / math.hypot(1.0, sigma), 999.0)
    torch.testing.assert_close(early, expected, atol=1e-4, rtol=1e-4)
    [result] = estimates
    assert calls == [999.0, 749.0, 499.0, 249.0]
    assert torch.equal(result, table.run(count, noise))
