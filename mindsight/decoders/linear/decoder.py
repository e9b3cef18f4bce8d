"""The linear decoder: ridge regression from voxels to any embedding, in closed form.

Knows nothing of what the embedding means. Letters: K trials, V voxels, D numbers of an embedding, B trials to
decode.

On mental imagery such decoders outperform the deep ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import WEIGHTS, PriorOptions, Refined
from mindsight.decoders.linear.ridge import RidgeTrials
from mindsight.errors import ModelMismatch
from mindsight.features import Features, FeatureSpace
from mindsight.weights.device import HOST, Placement
from mindsight.weights.tensors import map_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """``embedding = voxels @ weights + intercept``.

    weights_VD : (V, D) float32
    intercept_D : (D,) float32
    shape : of one embedding, (D,) or (tokens, channels)
    penalty : lambda of the ridge, on the scale of the voxels' sum of squares; NaN for weights of an inverted encoding
        model
    """

    weights_VD: NDArray[np.float32]
    intercept_D: NDArray[np.float32]
    shape: tuple[int, ...]
    penalty: float
    kind = "linear"

    @classmethod
    def fit(cls, voxels_KV: NDArray[Any], embeddings_KD: NDArray[Any], penalty: float | None = None) -> LinearDecoder:
        """Fit to K trials.

        voxels_KV : (K, V) z-scored betas
        embeddings_KD : (K, D) or (K, tokens, channels) what each trial showed
        penalty : None chooses the one with the least GCV error, common to all D

        Raises ModelMismatch (``decoder.fit``) for fewer than three trials, for voxels that do not vary, or if the
        two do not have the same number of rows.
        """
        trials = RidgeTrials()
        trials.push(voxels_KV, embeddings_KD)
        return cls.of(trials, penalty)

    @classmethod
    def of(cls, trials: RidgeTrials, penalty: float | None = None) -> LinearDecoder:
        """Fit to the trials that have arrived so far; the same as ``fit`` to all of them at once."""
        ridge = trials.solve(penalty)
        weights_VD, intercept_D = ridge.weights_VD.astype(np.float32), ridge.intercept_D.astype(np.float32)
        return cls(weights_VD, intercept_D, trials.target_shape, ridge.penalty)

    @property
    def origin(self) -> NDArray[np.float32]:
        """(*shape,) the prediction for an average beta: the mean of the embeddings that were fitted."""
        return self.intercept_D.reshape(self.shape)

    def predict(self, voxels_BV: NDArray[Any]) -> NDArray[np.float32]:
        """(B, *shape) embeddings of z-scored betas. Raises ModelMismatch (``decoder.voxel_count``)."""
        voxels = np.asarray(voxels_BV, dtype=np.float32)
        if voxels.ndim != 2 or voxels.shape[1] != len(self.weights_VD):
            raise ModelMismatch(
                f"expected (B, {len(self.weights_VD)}) voxels, got {voxels.shape}", code="decoder.voxel_count"
            )
        flat_BD: NDArray[np.float32] = voxels @ self.weights_VD + self.intercept_D
        return flat_BD.reshape(len(voxels), *self.shape)

    @property
    def n_voxels(self) -> int:
        return len(self.weights_VD)

    def describe(self) -> str:
        if np.isnan(self.penalty):
            return "an encoding model, inverted"
        return f"ridge regression, penalty {self.penalty:.3g}"

    def decoder(self, space: FeatureSpace, placement: Placement = HOST, *, lowlevel: bool = False) -> LinearFeatures:
        """The same weights, as a decoder into this space; it computes on the host, whatever the placement, and has no
        low-level head.
        """
        return LinearFeatures(self, space)

    def save(self, folder: Path) -> None:
        """Write one safetensors file into the folder."""
        tensors: dict[str, NDArray[Any]] = {
            "weights": self.weights_VD,
            "intercept": self.intercept_D,
            "shape": np.array(self.shape, np.int64),
            "penalty": np.array([self.penalty]),
        }
        write_tensors(folder / WEIGHTS, tensors)

    @classmethod
    def load(cls, folder: Path) -> LinearDecoder:
        """Read what ``save`` wrote. Raises ModelMismatch (``model.file``)."""
        tensors = map_tensors(folder / WEIGHTS)
        missing = {"weights", "intercept", "shape", "penalty"} - set(tensors)
        if missing:
            raise ModelMismatch(f"expected a linear decoder, {WEIGHTS} has no {sorted(missing)}", code="model.file")
        return cls(
            np.array(tensors["weights"]),
            np.array(tensors["intercept"]),
            tuple(int(n) for n in tensors["shape"]),
            float(tensors["penalty"][0]),
        )


class LinearFeatures:
    """A linear decoder with the space that it predicts in. Images are generated from predicted tokens as they are."""

    def __init__(self, weights: LinearDecoder, space: FeatureSpace) -> None:
        self._weights = weights
        self.n_voxels = weights.n_voxels
        self.query = space.name
        self.spaces: Mapping[str, FeatureSpace] = {space.name: space}
        self.condition: tuple[str, ...] = (space.name,) if len(space.shape) == 2 else ()
        self.refined: Mapping[str, FeatureSpace] = self.spaces if self.condition else {}
        self.origin = weights.origin

    def __call__(self, voxels_BV: NDArray[np.float32]) -> Features:
        return {self.query: self._weights.predict(voxels_BV)}

    def refine(self, condition: Features, seed: int, options: PriorOptions) -> Refined:
        """The prediction as it is: a linear decoder has no prior."""
        return Refined(condition, 0)

    def expect(self, seed: int, options: PriorOptions) -> None:
        """Nothing depends on a seed."""
