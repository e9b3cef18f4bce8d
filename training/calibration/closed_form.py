"""The ridge layer of a new subject in closed form, from trials that arrive one after the other.

Knows nothing of images, scanners or networks. A trial adds a row to what is kept: its beta, its target, and their
products with those of all trials before. All that depends on these alone (penalty, cross-validation) is then of the
size of the trials, not of the voxels.

Letters: K trials, B new ones, V voxels, H numbers of a target, F folds, P penalties, T and E trials that a fold fits
and leaves out.

A. E. Hoerl, R. W. Kennard, Technometrics 12, 1970 (ridge); C. Saunders et al., ICML 1998 (its dual form).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.linear.inversion import inverted_encoding
from mindsight.decoders.linear.readout import Readout
from mindsight.decoders.linear.structured import structured_encoding
from mindsight.errors import ModelMismatch

Method = Literal["ridge", "inversion", "structured", "whitened"]

# of ``inverted_encoding``: the decoder room's own, and one for errors that voxels share less, or that fewer trials show
DIAGONALS = (0.85, 0.96)
# of ``structured_encoding``: of the latent's variance
SHARES = (0.96, 0.98)

# relative to the mean variance along the directions that the trials span
_RELATIVE_PENALTIES = np.logspace(-2.0, 4.0, 25)
_FIRST_ROWS = 64


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Predictions of every trial by a readout that was fitted to other images.

    predicted_KH : (K, H) float32
    penalty : of ridge, with the least error over all trials that were left out; of an inverted encoding model, the
        weight of the diagonal in its error covariance; of one with structured errors, the share of the latent's
        variance
    """

    predicted_KH: NDArray[np.float32]
    penalty: float


class GrowingTrials:
    """Trials of a calibration so far, with their products. ``push`` costs one pass over the betas.

    n_voxels, n_targets : V and H
    """

    def __init__(self, n_voxels: int, n_targets: int) -> None:
        self.n = 0
        self._z_KV = np.empty((_FIRST_ROWS, n_voxels), np.float32)
        self._target_KH = np.empty((_FIRST_ROWS, n_targets), np.float32)
        self._gram_KK = np.empty((_FIRST_ROWS, _FIRST_ROWS))
        self._target_gram_KK = np.empty((_FIRST_ROWS, _FIRST_ROWS))

    def push(self, z_BV: NDArray[Any], target_BH: NDArray[Any]) -> None:
        """Take B more trials: z-scored betas, and what is to be predicted from them.

        Raises ModelMismatch (``decoder.fit``) for other widths than those of the trials before.
        """
        expected = (len(z_BV), self._z_KV.shape[1]), (len(z_BV), self._target_KH.shape[1])
        if (z_BV.shape, target_BH.shape) != expected:
            raise ModelMismatch(
                f"expected betas and targets {expected[0]} and {expected[1]}, got {z_BV.shape} and {target_BH.shape}",
                code="decoder.fit",
            )
        old, self.n = self.n, self.n + len(z_BV)
        self._reserve(self.n)
        new = slice(old, self.n)
        self._z_KV[new], self._target_KH[new] = z_BV, target_BH
        for gram_KK, rows_K in ((self._gram_KK, self._z_KV), (self._target_gram_KK, self._target_KH)):
            gram_KK[new, : self.n] = rows_K[new] @ rows_K[: self.n].T
            gram_KK[: self.n, new] = gram_KK[new, : self.n].T

    @property
    def z_KV(self) -> NDArray[np.float32]:
        return self._z_KV[: self.n]

    @property
    def target_KH(self) -> NDArray[np.float32]:
        return self._target_KH[: self.n]

    def fit(
        self,
        method: Method,
        penalty: float,
        rows_K: NDArray[np.intp] | None = None,
    ) -> Readout:
        """A readout of these trials, or of all.

        penalty : see ``CrossFit``
        """
        rows = np.arange(self.n) if rows_K is None else rows_K
        whole = len(rows) == self.n
        z_KV, target_KH = (each if whole else each[rows] for each in (self.z_KV, self.target_KH))
        if method == "inversion":
            return inverted_encoding(z_KV, target_KH, penalty)
        if method != "ridge":
            return structured_encoding(z_KV, target_KH, penalty, whitened=method == "whitened")
        gram_KK = self._gram_KK[: self.n, : self.n] if whole else self._gram_KK[np.ix_(rows, rows)]
        values_K, vectors_KK = np.linalg.eigh(_centred(gram_KK))
        solved_KK = (vectors_KK / (values_K.clip(0.0) + penalty)) @ vectors_KK.T
        mean_V, mean_H = z_KV.mean(axis=0), target_KH.mean(axis=0, dtype=np.float64)
        # the centring of both sides is in the small matrix: neither betas nor targets are copied
        solved_KK = _centred(solved_KK)
        left_VK = z_KV.T @ solved_KK.astype(np.float32)
        right_KH = target_KH.astype(np.float64)
        return Readout(left_VK, right_KH, mean_H - (mean_V @ left_VK).astype(np.float64) @ right_KH)

    def cross_fit(self, method: Method, fold_K: NDArray[np.intp], part: float = DIAGONALS[0]) -> CrossFit:
        """Every trial predicted by a readout of the other folds.

        fold_K : (K,) the fold of each trial; trials that showed one image belong in one fold
        part : of an inverted encoding model, the penalty of ``CrossFit``
        """
        predicted_KH = np.empty(self.target_KH.shape, np.float32)
        folds = [(np.flatnonzero(fold_K != fold), np.flatnonzero(fold_K == fold)) for fold in np.unique(fold_K)]
        if method != "ridge":
            for fitted, left_out in folds:
                readout = self.fit(method, part, fitted)
                predicted_KH[left_out] = readout.predict(self.z_KV[left_out])
            return CrossFit(predicted_KH, part)
        duals = [_Dual.of(self._gram_KK, self._target_gram_KK, *fold) for fold in folds]
        penalties_P = _RELATIVE_PENALTIES * float(np.mean([dual.values_T.mean() for dual in duals]))
        errors_P = [sum(dual.error(penalty) for dual in duals) for penalty in penalties_P]
        penalty = float(penalties_P[int(np.argmin(errors_P))])
        for dual, (fitted, left_out) in zip(duals, folds, strict=True):
            predicted_KH[left_out] = dual.operator_ET(penalty) @ self.target_KH[fitted]
        return CrossFit(predicted_KH, penalty)

    def _reserve(self, n: int) -> None:
        if n <= len(self._z_KV):
            return
        rows = max(n, 2 * len(self._z_KV))
        self._z_KV, self._target_KH = (_taller(each, rows) for each in (self._z_KV, self._target_KH))
        wider = [np.empty((rows, rows)) for _ in range(2)]
        for new_KK, old_KK in zip(wider, (self._gram_KK, self._target_gram_KK), strict=True):
            new_KK[: len(old_KK), : len(old_KK)] = old_KK
        self._gram_KK, self._target_gram_KK = wider


@dataclass(frozen=True, eq=False)
class _Dual:
    """Ridge regression of one fold, from products of trials alone: predictions are ``operator_ET @ targets``.

    The error at a penalty is a quadratic form in 1 / (eigenvalues + penalty), so that many penalties cost little.

    linear_T, quadratic_TT : of the form
    left_out : squared length of the left-out targets from the mean of those fitted
    """

    values_T: NDArray[np.float64]
    vectors_TT: NDArray[np.float64]
    cross_ET: NDArray[np.float64]
    linear_T: NDArray[np.float64]
    quadratic_TT: NDArray[np.float64]
    left_out: float

    @classmethod
    def of(
        cls,
        gram_KK: NDArray[np.float64],
        target_gram_KK: NDArray[np.float64],
        fitted: NDArray[np.intp],
        left_out: NDArray[np.intp],
    ) -> _Dual:
        values_T, vectors_TT = np.linalg.eigh(_centred(gram_KK[np.ix_(fitted, fitted)]))
        cross_ET = _from_mean(gram_KK, fitted, left_out) @ vectors_TT
        target_ET = _from_mean(target_gram_KK, fitted, left_out) @ vectors_TT
        target_TT = vectors_TT.T @ _centred(target_gram_KK[np.ix_(fitted, fitted)]) @ vectors_TT
        own_E = np.diag(target_gram_KK)[left_out]
        to_mean = target_gram_KK[np.ix_(left_out, fitted)].mean(axis=1).sum()
        mean = target_gram_KK[np.ix_(fitted, fitted)].mean() * len(left_out)
        return cls(
            values_T.clip(0.0),
            vectors_TT,
            cross_ET,
            np.einsum("et,et->t", cross_ET, target_ET),
            (cross_ET.T @ cross_ET) * target_TT,
            float(own_E.sum() - 2.0 * to_mean + mean),
        )

    def operator_ET(self, penalty: float) -> NDArray[np.float64]:
        """(E, T) from the targets of the fitted trials, not centred, to predictions."""
        raw_ET = (self.cross_ET / (self.values_T + penalty)) @ self.vectors_TT.T
        return np.asarray(raw_ET - raw_ET.mean(axis=1)[:, None] + 1.0 / len(self.values_T))

    def error(self, penalty: float) -> float:
        """Squared error over the trials left out and all numbers of their targets."""
        scale_T = 1.0 / (self.values_T + penalty)
        return float(self.left_out - 2.0 * (scale_T @ self.linear_T) + scale_T @ self.quadratic_TT @ scale_T)


def folds_by_image(image_K: NDArray[np.intp], n_folds: int) -> NDArray[np.intp]:
    """(K,) a fold for each trial: all trials of one image in one, images in blocks by when they were first shown.

    Blocks, because the errors of neighbouring trials, whose responses overlap, are correlated: a fold that is left out
    then has few neighbours among the trials that are fitted.
    """
    images, first, index_K = np.unique(image_K, return_index=True, return_inverse=True)
    place = np.empty(len(images), np.intp)
    place[np.argsort(first, kind="stable")] = np.arange(len(images))
    return np.asarray(place[index_K] * min(n_folds, len(images)) // len(images))


def folds_by_run(run_K: NDArray[np.intp], n_folds: int) -> NDArray[np.intp]:
    """(K,) a fold for each trial: whole runs, or blocks of the only run."""
    runs, index_K = np.unique(run_K, return_inverse=True)
    if len(runs) == 1:
        return np.asarray(np.arange(len(run_K)) * n_folds // len(run_K))
    return np.asarray(index_K * min(n_folds, len(runs)) // len(runs))


def _centred(gram_KK: NDArray[np.float64]) -> NDArray[np.float64]:
    mean_K = gram_KK.mean(axis=0)
    return np.asarray(gram_KK - mean_K - gram_KK.mean(axis=1)[:, None] + mean_K.mean())


def _from_mean(
    gram_KK: NDArray[np.float64], fitted: NDArray[np.intp], left_out: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(E, T) products of left-out and fitted rows, both from the mean of those fitted."""
    gram_TT, gram_ET = gram_KK[np.ix_(fitted, fitted)], gram_KK[np.ix_(left_out, fitted)]
    return np.asarray(gram_ET - gram_ET.mean(axis=1)[:, None] - gram_TT.mean(axis=0) + gram_TT.mean())


def _taller(rows_KX: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    taller = np.empty((n, rows_KX.shape[1]), np.float32)
    taller[: len(rows_KX)] = rows_KX
    return taller
