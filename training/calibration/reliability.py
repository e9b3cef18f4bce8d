"""How alike each voxel responds to an image whenever it is shown, and which voxels that makes worth decoding.

Knows nothing of decoders. Letters: K trials, V voxels, P pairs of successive showings of one image.

The measure is the correlation over pairs between the first and the second showing. Of two measurements with the same
signal and independent noise, it is the share of the variance that is signal: the most of a single trial's variance
that any model of the image can explain (Lage-Castellanos et al., PLoS Comput. Biol. 15, 2019).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest

MIN_TRIALS = 12
MIN_PAIRS = 12
_LEAST = 0.1  # below this share of signal, a voxel adds more noise than it tells, however surely it is above 0
_Z80 = 0.8416212335729143  # few pairs tell little: rather a voxel too many, which the fit can weigh down


@dataclass(frozen=True, eq=False)
class Reliability:
    """Of one subject's voxels.

    correlation_V : (V,) float32 between showings of an image, over pairs; 0 of a voxel that never varies
    n_pairs, n_images : that it was measured on; no pair: all correlations are 0
    """

    correlation_V: NDArray[np.float32]
    n_pairs: int
    n_images: int

    @property
    def threshold(self) -> float:
        """What one in five voxels without any signal exceeds (Fisher's transformation), but 0.1 at least."""
        if self.n_pairs < MIN_PAIRS:
            return math.inf
        return max(_LEAST, math.tanh(_Z80 / math.sqrt(self.n_pairs - 3)))

    @property
    def reliable_V(self) -> NDArray[np.bool_]:
        """(V,) voxels above the threshold; all of them while there are too few pairs to tell."""
        if self.n_pairs < MIN_PAIRS:
            return np.ones(len(self.correlation_V), np.bool_)
        return np.asarray(self.correlation_V > self.threshold)


def measure_reliability(z_KV: NDArray[Any], image_K: NDArray[np.intp]) -> Reliability:
    """Over all pairs of successive showings of an image.

    z_KV : (K, V) z-scored betas, in the order in which they were measured
    image_K : (K,) what each trial showed
    """
    pairs = [pair for image in np.unique(image_K) for pair in itertools.pairwise(np.flatnonzero(image_K == image))]
    n_voxels = z_KV.shape[1]
    if not pairs:
        return Reliability(np.zeros(n_voxels, np.float32), 0, 0)
    first_P, second_P = np.array(pairs).T
    first_PV, second_PV = (z_KV[rows] - z_KV[rows].mean(axis=0) for rows in (first_P, second_P))
    product_V = np.einsum("pv,pv->v", first_PV, second_PV)
    length_V = np.sqrt(np.einsum("pv,pv->v", first_PV, first_PV) * np.einsum("pv,pv->v", second_PV, second_PV))
    correlation_V = np.divide(product_V, length_V, out=np.zeros(n_voxels, product_V.dtype), where=length_V > 1e-12)
    n_images = len(np.unique(image_K[first_P]))
    return Reliability(correlation_V.astype(np.float32), len(pairs), n_images)


def check_betas(betas_KV: NDArray[Any], image_K: NDArray[np.intp], *, repeats: bool) -> None:
    """What calibration needs of betas, before any time is spent.

    repeats : whether images must have been shown again, for the reliability of voxels

    Raises BadRequest: ``calibration.trials`` for too few, ``calibration.labels`` if all trials showed the same,
    ``calibration.repeats`` if no image was shown again, ``calibration.betas`` for numbers that are not finite,
    ``calibration.voxels`` if most voxels never vary.
    """
    if len(betas_KV) < MIN_TRIALS:
        raise BadRequest(
            f"expected at least {MIN_TRIALS} labelled trials, got {len(betas_KV)}: scan another run, or label more of"
            " its events",
            code="calibration.trials",
        )
    if len(np.unique(image_K)) < 2:
        raise BadRequest(
            "expected trials that showed different images, got the same in all: check the column that names them",
            code="calibration.labels",
        )
    if repeats and len(np.unique(image_K)) == len(image_K):
        raise BadRequest(
            f"expected images that are shown more than once, got {len(image_K)} different ones: the reliability of a"
            " voxel is measured on repeats. Show some images twice",
            code="calibration.repeats",
        )
    broken_V = ~np.isfinite(betas_KV).all(axis=0)
    if broken_V.any():
        raise BadRequest(
            f"expected finite betas, got {int(broken_V.sum())} of {len(broken_V)} voxels with NaN or infinity: leave"
            " them out of the mask, or the run with them",
            code="calibration.betas",
        )
    constant_V = np.ptp(betas_KV, axis=0) == 0.0
    if constant_V.mean() > 0.5:
        raise BadRequest(
            f"expected voxels that vary from trial to trial, got {int(constant_V.sum())} of {len(constant_V)} that"
            " never do: check the mask, and that the runs have signal in it",
            code="calibration.voxels",
        )
