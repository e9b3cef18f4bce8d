"""A deterministic diffusion sampler as a table: what to feed the network at each step, and what to add up in the end.

Knows nothing of images, tokens or the network. Every deterministic sampler, guidance included, is linear in what it
starts from and in the network's predictions. Its weights are worked out once, on the host; what runs for an image is
sums with constant weights, which a CUDA graph can hold, and never a scheduler.

Axes: E steps, K what is known: start, noise, then the predictions in the order in which they are made. A guided step
makes two, of the unconditional tokens and of the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.generators.sampling.guidance import Guidance
from mindsight.generators.sampling.schedule import Grid
from mindsight.generators.sampling.solvers import CORRECTED, SOLVERS, Path, Row, SolverName, unipc_corrected

Predicts = Literal["noise", "clean"]
Predict = Callable[[Tensor, float, bool], tuple[Tensor, ...]]
"""(input, timestep, guided) -> the prediction of the tokens, after that of the unconditional tokens in guided steps."""


@dataclass(frozen=True, slots=True, eq=False)
class SamplerPlan:
    """Inputs of the network and the result, as weights of what is known.

    timesteps : (E,) the noise level that the network is given
    sigmas : (E + 1,) the same as a standard deviation; the last is that of the result, zero
    guided : steps that look at the unconditional tokens as well
    inputs_EK : row ``e`` gives the input of step ``e`` (zero for what is not known yet)
    cleans_EK : row ``e`` gives the clean latent as estimated after step ``e``, for a preview
    """

    timesteps: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    guided: tuple[bool, ...]
    inputs_EK: NDArray[np.float64]
    cleans_EK: NDArray[np.float64]

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one image."""
        return self.evaluations_after(self.steps)

    def evaluations_after(self, steps: int) -> int:
        """Evaluations of the network for one image in the first steps."""
        return steps + sum(self.guided[:steps])

    def run(self, predict: Predict, noise: Tensor, start: Tensor | None = None) -> Tensor:
        """The clean latent, float32, shaped like ``noise``.

        noise : of standard deviation one
        start : clean latent that the noise is added to; None: zero
        """
        [result] = self.estimates(predict, noise, start, after=(self.steps,))
        return result

    def estimates(
        self, predict: Predict, noise: Tensor, start: Tensor | None = None, *, after: Collection[int]
    ) -> Iterator[Tensor]:
        """The clean latent as estimated after these numbers of steps, each once it is known, for previews."""
        known: list[Tensor | None] = [None if start is None else start.float(), noise.float()]
        for step in range(max(after)):
            latent = _weighted(self.inputs_EK[step], known)
            known += [one.float() for one in predict(latent, float(self.timesteps[step]), self.guided[step])]
            if step + 1 in after:
                yield _weighted(self.cleans_EK[step], known)


def tabulate(
    grid: Grid, solver: SolverName = "euler", guidance: Guidance | None = None, predicts: Predicts = "noise"
) -> SamplerPlan:
    """Write down what a sampler does.

    grid : where it looks; ends in sigma zero, where every solver returns its last estimate of the clean latent
    predicts : what the network gives
    """
    timesteps, sigmas = grid
    policy = guidance or Guidance.off()
    guided = tuple(policy.evaluates_uncond(step) for step in range(len(timesteps)))
    known = _Known(2 + len(timesteps) + sum(guided))
    path, inputs = Path(), []
    sample = known.row(0) + sigmas[0] * known.row(1)
    uncond_clean = known.nothing()
    for step, sigma in enumerate(sigmas[:-1]):
        inputs.append(sample / np.hypot(1.0, sigma))
        if guided[step]:
            uncond_clean = _clean_of(known.following(), sample, sigma, predicts)
        clean = _clean_of(known.following(), sample, sigma, predicts)
        if policy.guides(step):
            clean = uncond_clean + policy.scale * (clean - uncond_clean)
        if solver in CORRECTED and step:
            sample = unipc_corrected(path, sample, clean, sigma)
        path.sigmas.append(sigma)
        path.samples.append(sample)
        path.cleans.append(clean)
        if step + 1 < len(timesteps):
            sample = SOLVERS[solver](path, sigmas[step + 1])
    return SamplerPlan(timesteps, sigmas, guided, np.stack(inputs), np.stack(path.cleans))


class _Known:
    """What a table's columns are."""

    def __init__(self, size: int) -> None:
        self._unit_KK = np.eye(size)
        self._next = 2

    def row(self, column: int) -> Row:
        row: Row = self._unit_KK[column]
        return row

    def nothing(self) -> Row:
        return np.zeros(len(self._unit_KK))

    def following(self) -> Row:
        """The next prediction."""
        self._next += 1
        return self.row(self._next - 1)


def _clean_of(prediction: Row, sample: Row, sigma: float, predicts: Predicts) -> Row:
    return prediction if predicts == "clean" else sample - sigma * prediction


def _weighted(weights_K: NDArray[np.float64], known: list[Tensor | None]) -> Tensor:
    """Weighted sum in float32. The weights are numbers of the host: no copy to the device, no wait for it."""
    total: Tensor | None = None
    for weight, tensor in zip(weights_K, known, strict=False):
        if tensor is not None and weight != 0.0:
            scaled = float(weight)
            total = tensor * scaled if total is None else torch.add(total, tensor, alpha=scaled)
    if total is None:
        raise AssertionError("no sampler starts from nothing")
    return total
