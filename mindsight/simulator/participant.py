"""A simulated participant: fixed responses of visual voxels to the tokens of an image.

Knows nothing of scanners, time or noise: tokens in, percent signal change out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID_SIDE = 4  # tokens lie on a 4 x 4 grid over the image, row-major, top left first


class Participant:
    """Voxel responses that are linear in image tokens, through retinotopy-like receptive fields.

    Each voxel has a Gaussian receptive field on the token grid (Dumoulin & Wandell 2008); the left hemisphere
    sees mostly the right half of the image, and vice versa. A voxel weighs the channels with a mixture of a few
    preferences that the whole cortex shares, and one of its own.

    ``left_V`` marks voxels of the left hemisphere. ``centre_V2`` is the centre of each receptive field: x to the right,
    y down, the image's edges at -1 and 1.

    seed : identifies the participant; another seed is another participant, with other voxels
    population_NTD : (N, 16, D) tokens of many images; responses are normalised over them
    n_voxels : number of voxels that respond to images
    mean_percent, sd_percent : mean and standard deviation over images of a typical voxel's response, percent signal
        change
    """

    def __init__(
        self,
        seed: int,
        population_NTD: NDArray[np.floating[Any]],
        n_voxels: int = 3000,
        mean_percent: float = 1.0,
        sd_percent: float = 0.8,
    ) -> None:
        n_tokens, n_channels = population_NTD.shape[1:]
        if n_tokens != GRID_SIDE**2:
            raise ValueError(f"expected tokens on a {GRID_SIDE} x {GRID_SIDE} grid, got {n_tokens} tokens")
        rng = np.random.default_rng([seed, 1])
        self.seed = seed
        self.n_voxels = n_voxels
        self.left_V: NDArray[np.bool_] = rng.random(n_voxels) < 0.5
        # eccentricity thins out like cortical magnification; hemifields overlap a little at the midline
        x_V = np.abs(rng.normal(0.0, 0.55, n_voxels)) * np.where(self.left_V, 1.0, -1.0) - 0.08 * np.where(
            self.left_V, 1.0, -1.0
        )
        y_V = rng.normal(0.0, 0.6, n_voxels)
        self.centre_V2: NDArray[np.float64] = np.stack([x_V, y_V], axis=1)
        size_V = 0.18 + 0.25 * np.hypot(x_V, y_V) + rng.exponential(0.08, n_voxels)
        centres = (np.arange(GRID_SIDE) + 0.5) / GRID_SIDE * 2.0 - 1.0
        grid_y, grid_x = np.meshgrid(centres, centres, indexing="ij")
        distance_VT = (grid_x.ravel() - x_V[:, None].clip(-0.9, 0.9)) ** 2 + (
            grid_y.ravel() - y_V[:, None].clip(-0.9, 0.9)
        ) ** 2
        field_VT = np.exp(-distance_VT / (2.0 * size_V[:, None] ** 2))
        self.field_VT = field_VT / field_VT.sum(axis=1, keepdims=True)

        preferences_RD = rng.normal(size=(12, n_channels))
        mixture_VR = rng.normal(size=(n_voxels, 12)) / np.sqrt(12)
        self.weights_VD = mixture_VR @ preferences_RD + 0.7 * rng.normal(size=(n_voxels, n_channels))
        self._mixing_VTD = self.field_VT[:, :, None] * self.weights_VD[:, None]

        raw_NV = self._raw(population_NTD)
        self._mean_V = raw_NV.mean(axis=0)
        self._scale_V = sd_percent * rng.lognormal(0.0, 0.35, n_voxels) / raw_NV.std(axis=0)
        self._offset_V = mean_percent * rng.lognormal(0.0, 0.3, n_voxels)

    def _raw(self, tokens_NTD: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        raw_NV = tokens_NTD.reshape(len(tokens_NTD), -1) @ self._mixing_VTD.reshape(self.n_voxels, -1).T
        return np.asarray(raw_NV, dtype=np.float64)

    def responses(self, tokens_NTD: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(N, V) noise-free responses to images with these (N, 16, D) tokens, in percent signal change."""
        chunks = [self._raw(tokens_NTD[i : i + 64]) for i in range(0, len(tokens_NTD), 64)]
        return np.asarray((np.concatenate(chunks) - self._mean_V) * self._scale_V + self._offset_V)
