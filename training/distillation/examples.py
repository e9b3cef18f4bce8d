"""Images with their tokens, as batches for the loss.

Everything drawn for a sample follows from the seed and the sample's number alone: a run is the same however its batches
are shared among processes, and whether or not it was interrupted.

Letters: B samples, N tokens of D numbers, K images, H and W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.encoders.sources import ImageSource, as_uint8
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.features import FeatureSpace
from mindsight.generators.unclip.sdxl.conditioner import size_vector
from mindsight.generators.unclip.sdxl.pipeline import FACTOR, Unclip
from mindsight.retrieval import CandidatePool
from mindsight.retrieval.from_files import open_images
from training.distillation.consistency import SOLVER_STEPS, Batch, solver_timestep


@dataclass(frozen=True, eq=False)
class Examples:
    """Images of a pool, at the size of the generator.

    rows_K : index of each candidate's image in ``images``
    """

    pool: CandidatePool
    images: ImageSource
    rows_K: NDArray[np.intp]
    held_out: int

    @classmethod
    def open(cls, pool_folder: Path, images: Path, space: FeatureSpace, size_px: int, held_out: int) -> Examples:
        """The images that a pool was built from.

        space : of the tokens that the generator was trained with

        Raises ModelMismatch (``features.space``, and what reading a pool raises), BadRequest (``training.images``).
        """
        pool = CandidatePool.load(pool_folder)
        if not (pool.space.encoder and pool.space.matches(space)):
            raise ModelMismatch(
                f"expected a pool of tokens {space.name} {space.shape} of encoder {space.encoder[:12]}, got"
                f" {pool.space.name or 'unnamed ones'} {pool.space.shape} of encoder"
                f" {pool.space.encoder[:12] or 'unknown'}: build one with the teacher's image tower",
                code="features.space",
            )
        if len(pool) <= held_out:
            raise BadRequest(
                f"expected more images than the {held_out} that are held out, got {len(pool)}: build a larger pool",
                code="training.images",
            )
        source = open_images(images, size_px)
        at = {name: row for row, name in enumerate(source.ids)}
        if lacking := [name for name in pool.ids if name not in at]:
            raise BadRequest(
                f"expected the images that the pool was built from, got none for {len(lacking)} of its {len(pool)}, the"
                f" first {lacking[0]}: name the same folder or file as for the pool",
                code="training.images",
            )
        return cls(pool, source, np.array([at[name] for name in pool.ids]), held_out)

    @property
    def n_trained(self) -> int:
        return len(self.pool) - self.held_out

    def tokens(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """(K, N, D) of these candidates."""
        tokens_KND: NDArray[np.float32] = self.pool.embeddings[list(rows)].astype(np.float32)
        return tokens_KND

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(K, H, W, 3) these candidates' images. Raises BadRequest (``pictures.unreadable``)."""
        return np.stack([as_uint8(self.images.read(int(self.rows_K[row]))) for row in rows])

    def row_of(self, sample: int, seed: int) -> int:
        """Which image a sample is: every epoch has its own order."""
        epoch, at = divmod(sample, self.n_trained)
        return int(_order(self.n_trained, seed, epoch)[at])

    def batch(self, samples: Sequence[int], seed: int, unclip: Unclip) -> Batch:
        """What the loss is computed of for these samples, on the generator's device."""
        rows = [self.row_of(sample, seed) for sample in samples]
        drawn = [np.random.default_rng([seed, sample]) for sample in samples]
        edge, layout, device = unclip.size_px // FACTOR, unclip.layout, unclip.device
        clean = latents_of(unclip, self.read(rows))
        tokens = torch.from_numpy(self.tokens(rows))
        timestep = [solver_timestep(int(rng.integers(1, SOLVER_STEPS + 1))) for rng in drawn]
        vector = size_vector(unclip.size_px, unclip.size_px, layout.vector_dim).expand(len(rows), -1)
        noise, uncond = (
            torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in drawn]))
            for shape in ((layout.channels, edge, edge), tuple(tokens.shape[1:]))
        )
        on = [given.to(device) for given in (tokens, vector, noise, uncond, torch.tensor(timestep))]
        return Batch(clean, *on)


@torch.no_grad()
def latents_of(unclip: Unclip, images_KHW3: NDArray[np.uint8]) -> Tensor:
    """(K, C, H / 8, W / 8) the latents that are shown as these images, float32, on the generator's device."""
    shown = torch.from_numpy(images_KHW3).permute(0, 3, 1, 2).float().div_(255.0)
    edge = unclip.size_px // FACTOR
    return unclip.start_of(shown, (edge, edge))


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.random.default_rng([seed, epoch, n]).permutation(n)
    return order
