"""Retrieval of images that are not trained on, both ways, with chance, interval and a control.

Betas of an image's repeats are decoded one by one and averaged behind the networks, as in the reference. Letters: B
trials, M held-out images of a subject, N tokens, D channels, X = N·D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.accuracy import Accuracy, top_k
from mindsight.decoders.mindeye2 import MindEye2, losses
from training.datasets.normalise import NormalisedBetas
from training.pretraining.objective import autocast, mixed_latent
from training.pretraining.targets import Targets

POOL = 300  # candidates at once, as in the published evaluation
_BATCH = 64


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One subject's held-out trials.

    rows : of the betas, those of each image; images : M
    """

    subject: str
    betas: NormalisedBetas
    rows: tuple[NDArray[np.int64], ...]
    images: tuple[str, ...]

    @classmethod
    def of(cls, subject: str, betas: NormalisedBetas, images: set[str]) -> HeldOut:
        """The trials that showed one of ``images``; the first ``POOL`` of these by a fixed, arbitrary order."""
        rows: dict[str, list[int]] = {}
        for row in betas.trials.rows_of(images):
            rows.setdefault(betas.trials.images[row], []).append(int(row))
        names = sorted(rows)
        order = np.random.default_rng([len(names), 61]).permutation(len(names))[:POOL]
        kept = [names[i] for i in np.sort(order)]
        return cls(subject, betas, tuple(np.array(rows[name]) for name in kept), tuple(kept))


@dataclass(frozen=True, slots=True)
class Retrieval:
    """
    images : the right image is the closest one to a brain's tokens
    brains : the right brain's tokens are the closest ones to an image
    control : as ``images``, each brain counted for another's image
    """

    images: Accuracy
    brains: Accuracy
    control: Accuracy

    def to_json(self) -> dict[str, Any]:
        return {name: _as_json(getattr(self, name)) for name in ("images", "brains", "control")}

    def __add__(self, other: Retrieval) -> Retrieval:
        return Retrieval(self.images + other.images, self.brains + other.brains, self.control + other.control)


def _as_json(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval
    return {
        "value": round(accuracy.value, 4),
        "interval": [round(low, 4), round(high, 4)],
        "n": accuracy.n,
        "chance": round(accuracy.chance, 5),
    }


@torch.no_grad()
def measure(
    model: MindEye2, held_out: Sequence[HeldOut], targets: Targets, device: str, dtype: torch.dtype
) -> dict[str, Retrieval]:
    """Retrieval by subject, in the order of the ridge layers; the model is in training again afterwards."""
    was_training = model.training
    model.eval()
    found = {}
    for at, subject in enumerate(held_out):
        predicted_MX = _predicted(model, at, subject, device, dtype)
        sought_MX = losses.unit_rows(torch.from_numpy(targets.tokens(subject.images)).to(device))
        scores_MM = (predicted_MX @ sought_MX.T).cpu().numpy()
        found[subject.subject] = retrieval_of(scores_MM)
    model.train(was_training)
    return found


def retrieval_of(scores_MM: NDArray[Any]) -> Retrieval:
    """scores_MM : of brains (rows) with images; brain and image of one number belong together"""
    right_MM = np.eye(len(scores_MM), dtype=np.bool_)
    other_MM = np.roll(right_MM, 1, axis=1)
    return Retrieval(top_k(scores_MM, right_MM, 1), top_k(scores_MM.T, right_MM, 1), top_k(scores_MM, other_MM, 1))


def total(found: dict[str, Retrieval]) -> Retrieval:
    """Of all subjects together."""
    first, *others = found.values()
    for other in others:
        first = first + other
    return first


def _predicted(model: MindEye2, at: int, subject: HeldOut, device: str, dtype: torch.dtype) -> Tensor:
    """(M, X) retrieval tokens at unit length, each the mean over an image's repeats."""
    rows_B = np.concatenate(subject.rows)
    image_B = np.repeat(np.arange(len(subject.rows)), [len(rows) for rows in subject.rows])
    order = np.argsort(rows_B)  # files are read forwards
    total_MX: Tensor | None = None
    for start in range(0, len(rows_B), _BATCH):
        part = order[start : start + _BATCH]
        betas_BV = torch.from_numpy(subject.betas.read(rows_B[part])).to(device)
        with autocast(device.partition(":")[0], dtype):
            mixed_BH = mixed_latent(model, model.ridge(betas_BV, at).float())
            tokens_BX = model.backbone.clip_proj(model.backbone.tokens(mixed_BH)).float().flatten(1)
        if total_MX is None:
            total_MX = torch.zeros(len(subject.rows), tokens_BX.shape[1], device=device)
        total_MX.index_add_(0, torch.from_numpy(image_B[part]).to(device), tokens_BX)
    assert total_MX is not None
    return torch.nn.functional.normalize(total_MX, dim=-1)
