"""A deterministic diffusion sampler as a table: what to feed the model at each step, and what to add up in the end.

Knows nothing of images, tokens or the model. Every deterministic scheduler is linear in the starting noise and in the
model's predictions, so running it once on basis vectors writes down all it will ever do; no scheduler runs per image.

Axes: E steps, each one evaluation of the model, K = 1 + E basis vectors (the noise, then the predictions in order).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LinearPlan:
    """Inputs of the model and the result, as weights of the noise and of the predictions so far.

    timesteps_E : the noise level that the model is given
    inputs_EK : row ``e`` gives the input of step ``e`` (zero for predictions not made yet)
    result_K : gives the clean latent
    """

    timesteps_E: NDArray[np.float32]
    inputs_EK: NDArray[np.float32]
    result_K: NDArray[np.float32]

    @classmethod
    def probe(cls, scheduler: Any, steps: int) -> LinearPlan:
        """Write down what a deterministic diffusers scheduler does in ``steps`` steps."""
        scheduler.set_timesteps(steps)
        basis_KK = torch.eye(1 + steps)
        sample_K = basis_KK[0] * float(scheduler.init_noise_sigma)
        inputs = []
        for step, timestep in enumerate(scheduler.timesteps):
            inputs.append(scheduler.scale_model_input(sample_K.view(1, -1, 1, 1), timestep).flatten().numpy())
            prediction_K = basis_KK[1 + step].view(1, -1, 1, 1)
            sample_K = scheduler.step(prediction_K, timestep, sample_K.view(1, -1, 1, 1)).prev_sample.flatten()
        timesteps_E = scheduler.timesteps.numpy().astype(np.float32)
        return cls(timesteps_E, np.stack(inputs), sample_K.numpy())

    @property
    def steps(self) -> int:
        return len(self.timesteps_E)

    def run(self, predict: Callable[[Tensor, float], Tensor], noise: Tensor) -> Tensor:
        """Sample: one ``predict(x, timestep)`` per step; returns the clean latent, shaped like ``noise``."""
        known = [noise]
        for timestep, weights_K in zip(self.timesteps_E, self.inputs_EK, strict=True):
            known.append(predict(_combine(weights_K, known), float(timestep)))
        return _combine(self.result_K, known)


def _combine(weights_K: NDArray[np.float32], known: list[Tensor]) -> Tensor:
    total = known[0] * float(weights_K[0])
    for weight, tensor in zip(weights_K[1:], known[1:], strict=False):
        if weight != 0.0:
            total = total + tensor * float(weight)
    return total
