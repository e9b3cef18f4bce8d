"""Parts of a batch: trials of all subjects, the same number of each, with their targets.

What is in a part follows from the seed and the part's number alone, however parts are shared among processes and
whether or not the run was interrupted. No image is twice in a part, where the contrastive loss would take one for a
wrong answer to the other (the reference skips a whole batch for that). Letters: S subjects, B trials of a part, V
voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.errors import BadRequest
from training.datasets.normalise import NormalisedBetas
from training.pretraining.targets import LowlevelBatch, Targets


@dataclass(frozen=True, eq=False)
class Learner:
    """One subject's training trials.

    rows_K : of the betas; images : of each of these trials
    """

    subject: str
    betas: NormalisedBetas
    rows_K: NDArray[np.int64]
    images: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """Trials that go through the networks together.

    betas : (B / S, V) of each subject, in the order of the ridge layers
    images, tokens_BND : of the trials, subject after subject
    """

    number: int
    betas: tuple[Tensor, ...]
    images: tuple[str, ...]
    tokens_BND: Tensor
    lowlevel: LowlevelBatch | None


@dataclass(frozen=True, eq=False)
class Batches:
    """size : trials of a part; seed : of the order. Raises BadRequest (``training.config``, ``dataset.trials``)."""

    learners: Sequence[Learner]
    targets: Targets
    size: int
    seed: int

    def __post_init__(self) -> None:
        n = len(self.learners)
        if self.size % n:
            raise BadRequest(
                f"expected as many trials of each of the {n} subjects in a part, got a part of {self.size}: choose a"
                " multiple",
                code="training.config",
            )
        for learner in self.learners:
            if len(set(learner.images)) < self.size:
                raise BadRequest(
                    f"expected {self.size} different training images or more for each subject, so that no image is"
                    f" twice in a part, got {len(set(learner.images))} of subject {learner.subject}: make the part"
                    " smaller, or leave the subject out",
                    code="dataset.trials",
                )

    def part(self, number: int) -> Part:
        each = self.size // len(self.learners)
        betas: list[Tensor] = []
        images: list[str] = []
        for at, learner in enumerate(self.learners):
            chosen = self._choose(at, learner, number * each, each, set(images))
            betas.append(torch.from_numpy(learner.betas.read(learner.rows_K[chosen])))
            images += [learner.images[i] for i in chosen]
        tokens = torch.from_numpy(self.targets.tokens(images))
        lowlevel = None
        if self.targets.lowlevel is not None:
            drawn = np.random.default_rng([self.seed, number, 51]).integers(0, 1 << 30, len(images))
            lowlevel = self.targets.lowlevel.read(images, drawn)
        return Part(number, tuple(betas), tuple(images), tokens, lowlevel)

    def _choose(self, at: int, learner: Learner, first: int, n: int, taken: set[str]) -> list[int]:
        """The next trials of the subject's order whose images are not in the part yet: an epoch is all of them once."""
        total, used, sample = len(learner.rows_K), set(taken), first
        chosen: list[int] = []
        while len(chosen) < n:
            epoch, place = divmod(sample, total)
            row = int(_order(total, self.seed, at, epoch)[place])
            sample += 1
            if learner.images[row] not in used:
                used.add(learner.images[row])
                chosen.append(row)
        return chosen


@lru_cache(maxsize=64)
def _order(n: int, seed: int, subject: int, epoch: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.random.default_rng([seed, epoch, subject, n, 52]).permutation(n)
    return order
