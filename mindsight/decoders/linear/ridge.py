"""Ridge regression on trials that arrive one after the other: its sums are updated with each, and solved at any time.

Knows nothing of brains or embeddings. Letters: K trials so far, B new ones, V voxels, D numbers of a target, R rank of
the trials.

A. E. Hoerl, R. W. Kennard, Technometrics 12, 1970 (ridge); G. H. Golub, M. Heath, G. Wahba, Technometrics 21, 1979
(generalised cross-validation, GCV).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch

# relative to the mean variance along the directions that the trials span: from almost no shrinkage to almost all
_RELATIVE_PENALTIES = np.logspace(-3.0, 3.0, 49)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ridge:
    """``targets = inputs @ weights_VD + intercept_D``, with the penalty it was solved for."""

    weights_VD: FloatArray
    intercept_D: FloatArray
    penalty: float


class RidgeTrials:
    """The trials of a calibration, in the form that ridge regression needs.

    While trials are fewer than voxels, the trials and their Gram matrix (K, K) are kept; a new trial adds a row. From
    then on, sums of products (V, V) and (V, D) are kept instead of trials; a new trial adds a term. The first trial is
    subtracted from all, so that a large common mean costs no digits.
    """

    def __init__(self) -> None:
        self.n = 0
        self.target_shape: tuple[int, ...] = ()
        self._origin_V = self._origin_D = np.zeros(0)
        self._sum_V = self._sum_D = np.zeros(0)
        self._target_power = 0.0
        self._x_KV: FloatArray | None = None
        self._y_KD = self._gram = self._cross_VD = np.zeros((0, 0))

    def push(self, voxels_BV: NDArray[Any], targets_BD: NDArray[Any]) -> None:
        """Take B more trials.

        voxels_BV : (B, V)
        targets_BD : (B, ...) of the same shape as before

        Raises ModelMismatch (``decoder.fit``) for other shapes than the first trials had, or another number of targets
        than of trials.
        """
        x_BV = np.asarray(voxels_BV, dtype=np.float64)
        shape = np.shape(targets_BD)[1:]
        y_BD = np.asarray(targets_BD, dtype=np.float64).reshape(len(targets_BD), -1)
        if len(x_BV) != len(y_BD) or (
            self.n and (x_BV.shape[1:] != self._origin_V.shape or shape != self.target_shape)
        ):
            raise ModelMismatch(
                f"expected as many targets as trials and the shapes of the first trial, got {x_BV.shape} and"
                f" {np.shape(targets_BD)}",
                code="decoder.fit",
            )
        if len(x_BV) == 0:
            return
        if self.n == 0:
            self._start(x_BV, y_BD, shape)
        x_BV, y_BD = x_BV - self._origin_V, y_BD - self._origin_D
        self._sum_V = self._sum_V + x_BV.sum(axis=0)
        self._sum_D = self._sum_D + y_BD.sum(axis=0)
        self._target_power += float((y_BD**2).sum())
        self.n += len(x_BV)
        if self._x_KV is not None and self.n <= x_BV.shape[1]:
            self._add_rows(self._x_KV, x_BV, y_BD)
            return
        if self._x_KV is not None:
            x_BV, y_BD = np.concatenate([self._x_KV, x_BV]), np.concatenate([self._y_KD, y_BD])
            self._gram, self._cross_VD = np.zeros((x_BV.shape[1],) * 2), np.zeros((x_BV.shape[1], y_BD.shape[1]))
            self._x_KV, self._y_KD = None, np.zeros((0, 0))
        self._gram += x_BV.T @ x_BV
        self._cross_VD += x_BV.T @ y_BD

    def solve(self, penalty: float | None = None) -> Ridge:
        """The fit to the trials so far, by one eigendecomposition of size min(K, V).

        penalty : None chooses the one with the least GCV error, common to all D

        Raises ModelMismatch (``decoder.fit``) for fewer than three trials or for voxels that do not vary.
        """
        if self.n < 3:
            raise ModelMismatch(
                f"expected three or more trials with an embedding each, got {self.n}", code="decoder.fit"
            )
        mean_V, mean_D = self._sum_V / self.n, self._sum_D / self.n
        gram = self._centred_gram(mean_V)
        values, vectors = np.linalg.eigh(gram)
        # directions shorter than the rounding error of the Gram matrix are ignored
        tiny = max(self.n, len(mean_V)) * np.finfo(np.float64).eps * max(values[-1], np.finfo(np.float64).tiny)
        values_R, vectors = values[values > tiny], vectors[:, values > tiny]
        if values_R.size == 0:
            raise ModelMismatch("expected voxels that vary from trial to trial, got constant ones", code="decoder.fit")
        # (R, D): in either case the targets along each direction, times the direction's length
        if self._x_KV is None:
            along_RD = vectors.T @ (self._cross_VD - self.n * np.outer(mean_V, mean_D))
        else:
            along_RD = np.sqrt(values_R)[:, None] * (vectors.T @ (self._y_KD - mean_D))
        if penalty is None:
            power_R = (along_RD**2).sum(axis=1) / values_R
            outside = self._target_power - self.n * float(mean_D @ mean_D) - float(power_R.sum())
            penalty = _least_gcv(values_R, power_R, outside, self.n)
        shrunk_RD = along_RD / (values_R + penalty)[:, None]
        if self._x_KV is None:
            weights_VD = vectors @ shrunk_RD
        else:
            combined_KD = vectors @ (shrunk_RD / np.sqrt(values_R)[:, None])
            weights_VD = (self._x_KV - mean_V).T @ combined_KD
        intercept_D = self._origin_D + mean_D - (self._origin_V + mean_V) @ weights_VD
        return Ridge(weights_VD, intercept_D, float(penalty))

    def _start(self, x_BV: FloatArray, y_BD: FloatArray, shape: tuple[int, ...]) -> None:
        self.target_shape = shape
        self._origin_V, self._origin_D = x_BV[0].copy(), y_BD[0].copy()
        self._sum_V, self._sum_D = np.zeros_like(self._origin_V), np.zeros_like(self._origin_D)
        self._x_KV, self._y_KD = np.zeros((0, x_BV.shape[1])), np.zeros((0, y_BD.shape[1]))

    def _add_rows(self, x_KV: FloatArray, x_BV: FloatArray, y_BD: FloatArray) -> None:
        old = len(x_KV)
        gram = np.empty((self.n, self.n))
        gram[:old, :old] = self._gram
        self._x_KV, self._y_KD = np.concatenate([x_KV, x_BV]), np.concatenate([self._y_KD, y_BD])
        gram[old:] = x_BV @ self._x_KV.T
        gram[:old, old:] = gram[old:, :old].T
        self._gram = gram

    def _centred_gram(self, mean_V: FloatArray) -> FloatArray:
        if self._x_KV is None:
            return self._gram - self.n * np.outer(mean_V, mean_V)
        rows_K = self._gram.mean(axis=0)
        centred: FloatArray = self._gram - rows_K - rows_K[:, None] + rows_K.mean()
        return centred


def _least_gcv(eigenvalues_R: FloatArray, power_R: FloatArray, outside: float, n_trials: int) -> float:
    """The penalty that minimises ``|(1 - H) y|^2 / trace(1 - H)^2``; the intercept is one parameter of H.

    power_R : (R,) squared length of the targets along each direction
    outside : squared length of the targets outside all directions
    """
    penalties_P = _RELATIVE_PENALTIES * float(eigenvalues_R.sum()) / n_trials
    kept_PR = penalties_P[:, None] / (eigenvalues_R + penalties_P[:, None])
    residual_P = (kept_PR**2) @ power_R + max(outside, 0.0)
    freedom_P = n_trials - 1 - eigenvalues_R.size + kept_PR.sum(axis=1)
    return float(penalties_P[int(np.argmin(residual_P / freedom_P**2))])
