"""From a design to the weights whose dot product with a series is an estimate.

Knows nothing of voxels, events or files. Letters: T frames, P regressors, R rank of the design, K trials, B bins of the
autoregressive coefficient.

An estimate is a linear functional of the history, ``beta_v = sum_i u_i(rho_v) y_vi``. With the thin decomposition
``X = Q S W'`` of the design and ``L`` the AR(1) whitening (first row as it is):

    g = (W S^-1)[probe]          G(rho) = Q'L'LQ = I - rho A1 + rho^2 A2
    c = G^-1 g                   u = L'L Q c

which is row ``probe`` of ``pinv(LX) L`` also if the design is singular (a constant confound, fewer frames than
regressors), at the condition number of ``L`` alone. ``g'G^-1 g`` is that row's squared length: the variance of the
estimate in units of the noise's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight.glm.design import lss_design

_RELATIVE_ZERO = 1e-8
# Share of an event's response that no other column explains: with less, single precision is not enough.
_LEAST_OWN = 0.05


class Basis(NamedTuple):
    """Orthonormal columns of a design, and the functional that reads column 0's coefficient from them."""

    q_TR: NDArray[np.float64]
    probe_R: NDArray[np.float64]

    @classmethod
    def of(cls, design_TP: NDArray[np.float64]) -> Basis:
        q, s, wt = np.linalg.svd(design_TP, full_matrices=False)
        keep = s > s[0] * max(design_TP.shape) * np.finfo(np.float64).eps
        return cls(np.ascontiguousarray(q[:, keep]), wt[keep, 0] / s[keep])


class Estimator(NamedTuple):
    """Per bin of the autoregressive coefficient: weights over time, and the estimate's variance under unit noise."""

    weights_BT: NDArray[np.float64]
    variance_B: NDArray[np.float64]


def gram_matrices(q_TR: NDArray[np.float64], rho_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, R, R) products Q'L'LQ of whitened columns."""
    cross_RR = q_TR[1:].T @ q_TR[:-1]
    inner_RR = q_TR[:-1].T @ q_TR[:-1]
    rho = rho_B[:, None, None]
    gram_BRR: NDArray[np.float64] = q_TR.T @ q_TR - rho * (cross_RR + cross_RR.T) + rho**2 * inner_RR
    return gram_BRR


def ols_estimator(basis: Basis) -> Estimator:
    """The probe's estimator without whitening; one bin."""
    weights_T = basis.q_TR @ basis.probe_R
    return Estimator(weights_T[None], np.array([basis.probe_R @ basis.probe_R]))


def ar_estimator(basis: Basis, rho_B: NDArray[np.float64]) -> Estimator:
    """The probe's estimator by generalised least squares."""
    gram_BRR = gram_matrices(basis.q_TR, rho_B)
    c_BR1 = np.linalg.solve(gram_BRR, basis.probe_R[:, None])
    weights_BT = whitened_twice(c_BR1[:, :, 0] @ basis.q_TR.T, rho_B[:, None])
    return Estimator(weights_BT, c_BR1[:, :, 0] @ basis.probe_R)


def whitened_twice(x: NDArray[np.float64], rho: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """L'L along the last axis."""
    white = x.copy()
    white[..., 1:] -= rho * x[..., :-1]
    twice = white.copy()
    twice[..., :-1] -= rho * white[..., 1:]
    return twice


class SeparateWeights(NamedTuple):
    """Least-squares-separate weights of all trials, in the parts that make them cheap.

    The weights of trial k are ``band_TK[:, k] + shared_TR @ of_shared_RK[:, k]``; the band is zero outside the trial's
    own response. ``sound_K`` is False if the design alone, and not this form, determines the estimate.
    """

    band_TK: NDArray[np.float64]
    shared_TR: NDArray[np.float64]
    of_shared_RK: NDArray[np.float64]
    sound_K: NDArray[np.bool_]


def separate_weights(regressors_TK: NDArray[np.float64], nuisance_TP: NDArray[np.float64]) -> SeparateWeights:
    """For each event the weights of its least-squares-separate estimate without whitening.

    With the nuisance projected out (Q its orthonormal columns), two columns are left per event: its own,
    ``p = x - Q Q'x``, and the sum of the others, ``r = s - p`` with s the sum over all events. The estimate

        (r'r p - p'r r)'y / det = ((r'r + p'r) p - p'r s)'y / det

    needs each event's own short response, and R + 1 columns for all events together. Where these two hardly
    determine the estimate (too few frames, an event whose response has not begun), ``of_design`` does.
    """
    q_TR = Basis.of(nuisance_TP).q_TR
    inside_RK = q_TR.T @ regressors_TK
    own_TK = regressors_TK - q_TR @ inside_RK
    all_T1 = own_TK.sum(axis=1, keepdims=True)
    rest_TK = all_T1 - own_TK
    pp, pr, rr = (own_TK**2).sum(0), (own_TK * rest_TK).sum(0), (rest_TK**2).sum(0)
    determinant = pp * rr - pr**2
    raw = (regressors_TK**2).sum(0)
    sound_K = (rr > _RELATIVE_ZERO * raw) & (determinant > _LEAST_OWN * raw * rr)
    safe = np.where(sound_K, determinant, 1.0)
    of_own_K, of_all_K = (rr + pr) / safe, pr / safe
    of_shared_RK = np.vstack([-inside_RK * of_own_K, -of_all_K])
    return SeparateWeights(regressors_TK * of_own_K, np.hstack([q_TR, all_T1]), of_shared_RK, sound_K)


def of_design(regressors_TK: NDArray[np.float64], k: int, nuisance_TP: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) weights of event k's estimate without whitening, from the whole design."""
    basis = Basis.of(lss_design(regressors_TK, k, nuisance_TP))
    return basis.q_TR @ basis.probe_R


def ridge_weights(
    regressors_TK: NDArray[np.float64],
    energy_K: NDArray[np.float64],
    nuisance_TP: NDArray[np.float64],
    rho_B: NDArray[np.float64],
    fraction: float,
    indices: Sequence[int],
) -> NDArray[np.float64]:
    """(len(indices), B, T) ridge weights of the events at ``indices``; all K are estimated together, each with its own
    column (least squares, all).

        minimise  |L (y - X b - N c)|^2 + (1 / fraction - 1) sum_k energy_k b_k^2,  result  b / fraction

    energy_K : sum of squares of the event's whole response, however much of it was measured
    fraction : between 0 and 1, the share of its size that a response keeps if it overlaps with nothing and was measured
        completely (no whitening); the division restores it. After Rokem & Kay 2020, GigaScience 9:giaa133, who choose
        the fraction of the whole solution's norm.

    The nuisance N is not penalised.
    """
    scale_K = 1.0 / np.sqrt(energy_K)
    columns_TP = np.column_stack([regressors_TK * scale_K, Basis.of(nuisance_TP).q_TR])
    gram_BPP = gram_matrices(columns_TP, rho_B)
    of_events = np.arange(regressors_TK.shape[1])
    gram_BPP[:, of_events, of_events] += 1.0 / fraction - 1.0
    c_BPK = np.linalg.solve(gram_BPP, np.eye(columns_TP.shape[1])[:, indices])
    fitted_KBT = np.swapaxes(c_BPK, 1, 2).swapaxes(0, 1) @ columns_TP.T
    weights_KBT: NDArray[np.float64] = whitened_twice(fitted_KBT, rho_B[:, None])
    weights_KBT *= scale_K[indices, None, None] / fraction
    return weights_KBT
