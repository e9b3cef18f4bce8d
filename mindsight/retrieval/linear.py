"""The linear decoder: ridge regression from voxels to any embedding, in closed form.

Knows nothing of what the embedding stands for. Letters: K trials, V voxels, D numbers of an embedding, B trials to
decode, R rank of the trials.

A. E. Hoerl, R. W. Kennard, Technometrics 12, 1970 (ridge); G. H. Golub, M. Heath, G. Wahba, Technometrics 21, 1979
(generalised cross-validation, GCV). On mental imagery such decoders outdo the deep ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.retrieval.tensors import map_tensors, write_tensors

# Of the mean variance along the directions that the trials span: from hardly any shrinkage to nearly all.
_RELATIVE_PENALTIES = np.logspace(-3.0, 3.0, 49)


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """``embedding = voxels @ weights + intercept``.

    weights_VD : (V, D) float32
    intercept_D : (D,) float32
    shape : of one embedding, (D,) or (tokens, channels)
    penalty : lambda of the ridge, on the scale of the voxels' sum of squares
    """

    weights_VD: NDArray[np.float32]
    intercept_D: NDArray[np.float32]
    shape: tuple[int, ...]
    penalty: float

    @classmethod
    def fit(cls, voxels_KV: NDArray[Any], embeddings_KD: NDArray[Any], penalty: float | None = None) -> LinearDecoder:
        """Fit to K trials.

        voxels_KV : (K, V) z-scored betas
        embeddings_KD : (K, D) or (K, tokens, channels) what each trial showed
        penalty : None chooses the one with the least GCV error, common to all D

        Solved by one eigendecomposition of size min(K, V). Raises ModelMismatch (``decoder.fit``) for fewer than three
        trials, for voxels that do not vary, or where the two do not have the same number of rows.
        """
        x_KV = np.asarray(voxels_KV, dtype=np.float64)
        y_KD = np.asarray(embeddings_KD, dtype=np.float64).reshape(len(embeddings_KD), -1)
        if len(x_KV) != len(y_KD) or len(x_KV) < 3:
            raise ModelMismatch(
                f"expected three or more trials with an embedding each, got {len(x_KV)} and {len(y_KD)}",
                code="decoder.fit",
            )
        mean_V, mean_D = x_KV.mean(axis=0), y_KD.mean(axis=0)
        directions_VR, lengths_R, loadings_KR = _principal(x_KV - mean_V)
        if lengths_R.size == 0:
            raise ModelMismatch("expected voxels that vary from trial to trial, got constant ones", code="decoder.fit")
        target_RD = loadings_KR.T @ (y_KD - mean_D)
        if penalty is None:
            outside = float(((y_KD - mean_D) ** 2).sum() - (target_RD**2).sum())
            penalty = _least_gcv(lengths_R**2, (target_RD**2).sum(axis=1), outside, len(x_KV))
        weights_VD = directions_VR @ ((lengths_R / (lengths_R**2 + penalty))[:, None] * target_RD)
        return cls(
            weights_VD.astype(np.float32),
            (mean_D - mean_V @ weights_VD).astype(np.float32),
            tuple(np.shape(embeddings_KD)[1:]),
            float(penalty),
        )

    def predict(self, voxels_BV: NDArray[Any]) -> NDArray[np.float32]:
        """(B, *shape) embeddings of z-scored betas. Raises ModelMismatch (``decoder.voxel_count``)."""
        voxels = np.asarray(voxels_BV, dtype=np.float32)
        if voxels.ndim != 2 or voxels.shape[1] != len(self.weights_VD):
            raise ModelMismatch(
                f"expected (B, {len(self.weights_VD)}) voxels, got {voxels.shape}", code="decoder.voxel_count"
            )
        flat_BD: NDArray[np.float32] = voxels @ self.weights_VD + self.intercept_D
        return flat_BD.reshape(len(voxels), *self.shape)

    def save(self, path: Path) -> None:
        """Write to one safetensors file."""
        tensors: dict[str, NDArray[Any]] = {
            "weights": self.weights_VD,
            "intercept": self.intercept_D,
            "shape": np.array(self.shape, np.int64),
            "penalty": np.array([self.penalty]),
        }
        write_tensors(path, tensors)

    @classmethod
    def load(cls, path: Path) -> LinearDecoder:
        """Read what ``save`` wrote. Raises ModelMismatch (``model.file``)."""
        tensors = map_tensors(path)
        missing = {"weights", "intercept", "shape", "penalty"} - set(tensors)
        if missing:
            raise ModelMismatch(f"expected a linear decoder, {path.name} has no {sorted(missing)}", code="model.file")
        return cls(
            np.array(tensors["weights"]),
            np.array(tensors["intercept"]),
            tuple(int(n) for n in tensors["shape"]),
            float(tensors["penalty"][0]),
        )


def _principal(
    centred_KV: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Thin singular value decomposition: directions (V, R), lengths (R,), loadings (K, R).

    Through the Gram matrix of the shorter side, which is what makes tens of thousands of voxels as quick as the trials
    are few. Directions shorter than its rounding error are left out.
    """
    k, v = centred_KV.shape
    gram = centred_KV @ centred_KV.T if k <= v else centred_KV.T @ centred_KV
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(k, v) * np.finfo(np.float64).eps * max(float(values[-1]), np.finfo(np.float64).tiny)
    lengths_R, vectors = np.sqrt(values[keep]), vectors[:, keep]
    if k <= v:
        return (centred_KV.T @ vectors) / lengths_R, lengths_R, vectors
    return vectors, lengths_R, (centred_KV @ vectors) / lengths_R


def _least_gcv(
    eigenvalues_R: NDArray[np.float64], power_R: NDArray[np.float64], outside: float, n_trials: int
) -> float:
    """The penalty that minimises ``|(1 - H) y|^2 / trace(1 - H)^2``; the intercept is one parameter of H.

    power_R : (R,) squared length of the targets along each direction
    outside : squared length of the targets that no direction reaches
    """
    penalties_P = _RELATIVE_PENALTIES * float(eigenvalues_R.sum()) / n_trials
    kept_PR = penalties_P[:, None] / (eigenvalues_R + penalties_P[:, None])
    residual_P = (kept_PR**2) @ power_R + max(outside, 0.0)
    freedom_P = n_trials - 1 - eigenvalues_R.size + kept_PR.sum(axis=1)
    return float(penalties_P[int(np.argmin(residual_P / freedom_P**2))])
