"""What a trial's networks are to give: the tokens of the image that was shown, and what its low-level head learns from.

Knows nothing of betas. Letters: M images, B images at once, N tokens, D channels, A augmentations, P places, C channels
of the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.features import LOWLEVEL, FeatureSpace
from mindsight.retrieval import CandidatePool

PLACES, TEACHER = 49, 512  # 7 × 7 places of the map, and channels of the reference's teacher (VICRegL ConvNeXt-XL)


class LowlevelBatch(NamedTuple):
    """latent_B4HW of the images; the teacher's features (B, P, C) of them, and of one augmentation of each."""

    latent_B4HW: Tensor
    teacher_BPC: Tensor
    augmented_BPC: Tensor


@dataclass(frozen=True, eq=False)
class Lowlevel:
    """Targets of the low-level head, from an HDF5 file: ``ids`` (M,) texts, ``latents`` (M, 4, 28, 28) of the
    autoencoder times 0.18215, ``teacher`` (M, 49, 512), and ``augmented`` (M, A, 49, 512) of A augmentations.
    """

    file: Any
    row_of: dict[str, int]

    @classmethod
    def open(cls, path: Path) -> Lowlevel:
        """Raises ModelMismatch (``targets.lowlevel``)."""
        import h5py

        try:
            file = h5py.File(path, "r")
            ids = [str(name) for name in file["ids"].asstr()[:]]
            shapes = {name: tuple(file[name].shape[1:]) for name in ("latents", "teacher", "augmented")}
        except (OSError, KeyError, TypeError) as error:
            raise ModelMismatch(
                f"expected an HDF5 file with ids, latents, teacher and augmented, got {path.name} ({error}): make it"
                " with python -m training.pretraining.lowlevel",
                code="targets.lowlevel",
            ) from None
        teacher = (PLACES, TEACHER)
        fits = shapes["latents"] == LOWLEVEL.shape and shapes["teacher"] == shapes["augmented"][1:] == teacher
        if not fits or {len(file[name]) for name in shapes} != {len(ids)}:
            raise ModelMismatch(
                f"expected latents {LOWLEVEL.shape} and teacher's features {teacher} of {len(ids)} images in"
                f" {path.name}, got {shapes}: make it again with python -m training.pretraining.lowlevel",
                code="targets.lowlevel",
            )
        return cls(file, {name: row for row, name in enumerate(ids)})

    def read(self, images: Sequence[str], drawn: NDArray[np.int64]) -> LowlevelBatch:
        """drawn : (B,) numbers of which each image's augmentation is chosen, modulo how many there are"""
        rows = [self.row_of[image] for image in images]
        n_augmented = self.file["augmented"].shape[1]
        latents, teacher, augmented = (
            np.stack([np.asarray(self.file[name][row], np.float32) for row in rows])
            if name != "augmented"
            else np.stack([self.file[name][row, k % n_augmented] for row, k in zip(rows, drawn, strict=True)])
            for name in ("latents", "teacher", "augmented")
        )
        return LowlevelBatch(*(torch.from_numpy(each.astype(np.float32)) for each in (latents, teacher, augmented)))


@dataclass(frozen=True, eq=False)
class Targets:
    """
    ids : M images
    tokens_MND : of each, float16 or float32; may be a memory map
    digest : of the tokens, or of what made them
    """

    ids: tuple[str, ...]
    tokens_MND: NDArray[Any]
    space: FeatureSpace
    digest: str
    lowlevel: Lowlevel | None = None

    @classmethod
    def of_pool(cls, pool: CandidatePool, lowlevel: Lowlevel | None = None) -> Targets:
        """Raises ModelMismatch (``features.space``) for embeddings that are not tokens."""
        if len(pool.token_shape) != 2:
            raise ModelMismatch(
                f"expected a pool of tokens (N, D), got embeddings {pool.token_shape}: build it with --embedding"
                " tokens",
                code="features.space",
            )
        return cls(pool.ids, pool.embeddings, pool.space, pool.digest, lowlevel)

    def require(self, images: Sequence[str]) -> None:
        """Raises BadRequest (``dataset.images``) if an image has no targets."""
        sets = {"tokens": self._row_of.keys()}
        if self.lowlevel is not None:
            sets["low-level targets"] = self.lowlevel.row_of.keys()
        for what, known in sets.items():
            if lacking := [image for image in images if image not in known]:
                raise BadRequest(
                    f"expected {what} of every image that was shown, got none for {len(lacking)} of {len(images)}, the"
                    f" first {lacking[0]}: build the pool from all images",
                    code="dataset.images",
                )

    def tokens(self, images: Sequence[str]) -> NDArray[np.float32]:
        """(B, N, D)"""
        rows = [self._row_of[image] for image in images]
        tokens_BND: NDArray[np.float32] = self.tokens_MND[rows].astype(np.float32)
        return tokens_BND

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {image: row for row, image in enumerate(self.ids)}
