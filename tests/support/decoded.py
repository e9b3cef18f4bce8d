"""A decoder that is linear in the tokens, with Gaussian errors of a known size at each stage.

Letters: I images, K trials, D numbers of the tokens, X decoded numbers, P numbers that matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.posterior.errors import DecodingErrors

N_IMAGES, REPEATED = 300, 60


@dataclass(frozen=True, eq=False)
class Decoded:
    """noise : standard deviation of the errors of each stage, in every direction that matters."""

    tokens_PD: NDArray[np.float64]
    features_PX: NDArray[np.float64]
    noise: dict[str, float]
    rng: np.random.Generator

    @property
    def width(self) -> int:
        return len(self.tokens_PD)

    @property
    def n_decoded(self) -> int:
        return self.features_PX.shape[1]

    def images(self, n: int) -> NDArray[np.float64]:
        """(n, D) tokens of new images."""
        images: NDArray[np.float64] = self.rng.normal(size=(n, self.width)) @ self.tokens_PD + 1.0
        return images

    def mean(self, tokens_KD: NDArray[Any]) -> NDArray[np.float64]:
        """(K, X) features without errors."""
        mean_KX: NDArray[np.float64] = (tokens_KD - 1.0) @ np.linalg.pinv(self.tokens_PD) @ self.features_PX - 2.0
        return mean_KX

    def decode(self, tokens_KD: NDArray[Any], stage: str) -> NDArray[np.float64]:
        """(K, X) features of one trial for each image."""
        basis_PX = self.features_PX / np.linalg.norm(self.features_PX, axis=1, keepdims=True)
        errors_KP = self.rng.normal(size=(len(tokens_KD), self.width)) * self.noise[stage]
        return self.mean(tokens_KD) + errors_KP @ basis_PX

    def learn(self, n_images: int = N_IMAGES) -> DecodingErrors:
        """From trials of this many images, some of which were shown twice."""
        images_ID = self.images(n_images)
        image_K = np.concatenate([np.arange(n_images), np.arange(min(REPEATED, n_images // 2))])
        decoded = {stage: self.decode(images_ID[image_K], stage) for stage in self.noise}
        return DecodingErrors.learn(decoded, images_ID[image_K], image_K)


def simulate(seed: int, width: int = 8) -> Decoded:
    """Tokens of 40 numbers and features of 30; both vary in ``width`` directions, which are orthogonal."""
    rng = np.random.default_rng(seed)
    tokens_PD = np.linalg.qr(rng.normal(size=(40, width)))[0].T * 3.0
    features_PX = np.linalg.qr(rng.normal(size=(30, width)))[0].T * 4.0
    return Decoded(tokens_PD, features_PX, {"fast": 1.2, "final": 0.6}, rng)
