"""Least-squares-separate estimates of many trials at once: what their designs share is computed once.

Knows nothing of events or files. Letters: V voxels, T frames, N capacity of the buffer, R rank of what the designs
share, K trials, B bins of the autoregressive coefficient.

The design of trial k spans the nuisance, the sum of all events, and the trial's own column x. With Q the R orthonormal
columns of the first two and e = y - QQ'y the series without them, a trial adds one direction

    u = (x - QQ'x) / n        n = |x - QQ'x|

so that its residuals are e - (u'e) u. Its own column is short (one response), so products with it are short too. With
H = S + S' the sum of the two neighbours of a frame and J all frames but the last, AR(1) whitening is L'L = I - rho H +
rho^2 J, and its products with Q and u follow from those of H and the last frame alone. The trial borders Q's matrix
G = Q'L'LQ by one row, so one inverse per bin serves all trials (its Schur complement is s below). The estimate is that
of ``estimators`` and the error that of ``noise.Residuals``, to rounding in double precision.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight.glm.estimators import Basis, gram_matrices, separate_weights
from mindsight.glm.kernels import separate_betas
from mindsight.glm.noise import AR_BINS
from mindsight.glm.together_kernels import estimate, project

# Share of an event's sum of squares that no other column explains: with less, the whole design is used.
_LEAST_OWN = 1e-6
_BLOCK = 4096  # voxels at a time, which bounds the memory per trial

Float64Array = NDArray[np.float64]


class Directions(NamedTuple):
    """What the trials' designs share, and what each adds. The trials are those of ``sound_K``.

    shared : basis of the sum of all events and the nuisance; its probe reads the coefficient of the sum
    own_KT, from_K, to_K : each trial's column x, and the frames outside which it is zero
    unit_KT, length_K : u and n
    inside_KR : Q'x
    sound_K : (of all trials) whether this form determines the trial's estimate
    """

    shared: Basis
    own_KT: Float64Array
    from_K: NDArray[np.int64]
    to_K: NDArray[np.int64]
    unit_KT: Float64Array
    length_K: Float64Array
    inside_KR: Float64Array
    sound_K: NDArray[np.bool_]

    @classmethod
    def of(cls, regressors_TE: Float64Array, indices: NDArray[np.intp], nuisance_TP: Float64Array) -> Directions:
        """regressors_TE : of all events that have started; indices : (K,) of the trials among them."""
        sum_T = regressors_TE.sum(axis=1)
        shared = Basis.of(np.column_stack([sum_T, nuisance_TP]))
        q_TR = shared.q_TR
        own_KT = np.ascontiguousarray(regressors_TE[:, indices].T)
        inside_KR = own_KT @ q_TR
        rest_KT = own_KT - inside_KR @ q_TR.T
        rest_KT -= (rest_KT @ q_TR) @ q_TR.T  # a second time, so that u is orthogonal to Q to rounding
        length_K = np.sqrt(np.einsum("kt,kt->k", rest_KT, rest_KT))
        nuisance_q_TR = Basis.of(nuisance_TP).q_TR
        rest_T = sum_T - nuisance_q_TR @ (nuisance_q_TR.T @ sum_T)
        is_shared_sound = rest_T @ rest_T > _LEAST_OWN * (sum_T @ sum_T) and len(q_TR) > q_TR.shape[1] + 1
        sound_K = (length_K**2 > _LEAST_OWN * np.einsum("kt,kt->k", own_KT, own_KT)) & is_shared_sound
        own_KT, rest_KT = np.ascontiguousarray(own_KT[sound_K]), rest_KT[sound_K]
        in_use_KT = own_KT != 0.0
        length_K = length_K[sound_K]
        return cls(
            shared=shared,
            own_KT=own_KT,
            from_K=in_use_KT.argmax(axis=1).astype(np.int64),
            to_K=own_KT.shape[1] - in_use_KT[:, ::-1].argmax(axis=1).astype(np.int64),
            unit_KT=np.ascontiguousarray(rest_KT / length_K[:, None]),
            length_K=length_K,
            inside_KR=np.ascontiguousarray(inside_KR[sound_K]),
            sound_K=sound_K,
        )


def separate_ols_betas(
    rows_VN: NDArray[np.float32],
    n_frames: int,
    regressors_TE: Float64Array,
    nuisance_TP: Float64Array,
    indices: NDArray[np.intp],
    out_KV: Float64Array,
) -> NDArray[np.bool_]:
    """Least-squares-separate betas without whitening, of the trials at these indices among the events.

    rows_VN : the buffer, whose first ``n_frames`` frames are in use
    out_KV : filled, K trials

    Returns (K,) bool, whether this form determines the trial's estimate; otherwise the design alone does.
    """
    weights = separate_weights(regressors_TE, nuisance_TP)
    band_KT = _in_fours(weights.band_TK[:, indices].T).astype(np.float32)
    in_use_GT = np.abs(band_KT).reshape(-1, 4, band_KT.shape[1]).max(axis=1) > 0.0
    first_G = in_use_GT.argmax(axis=1) // 4 * 4
    end_G = band_KT.shape[1] - in_use_GT[:, ::-1].argmax(axis=1) // 4 * 4
    of_shared_KR = _in_fours(weights.of_shared_RK[:, indices].T)
    shared_RT = _in_fours(weights.shared_TR.T).astype(np.float32)
    separate_betas(rows_VN, n_frames, band_KT, first_G, end_G, shared_RT, of_shared_KR, out_KV)
    return weights.sound_K[indices]


def _in_fours(x: Float64Array) -> Float64Array:
    """Padded with zeros to a multiple of four both ways."""
    rows, columns = x.shape
    return np.pad(x, ((0, -rows % 4), (0, -columns % 4)))


def separate_estimates(
    series_VN: NDArray[np.float32], directions: Directions, *, ar1: bool
) -> tuple[Float64Array, Float64Array]:
    """(K, V) betas and their standard errors of the sound trials.

    series_VN : the buffer, whose first T frames are in use
    ar1 : whiten with one coefficient per voxel and trial, in hundredths, as ``noise`` does; else plain least squares
    """
    shared, unit_KT = directions.shared, directions.unit_KT
    q_TR = shared.q_TR
    n_frames, rank = q_TR.shape
    n_voxels, n_trials = len(series_VN), len(unit_KT)
    neighbours_KT = _neighbours(unit_KT)
    own_turn_K = np.einsum("kt,kt->k", unit_KT, neighbours_KT)  # u'Hu
    cross_KR = np.ascontiguousarray(neighbours_KT @ q_TR)  # u'HQ

    out_KV = np.empty((2, n_trials, n_voxels))
    for start in range(0, n_voxels, _BLOCK):
        rows_VN = series_VN[start : start + _BLOCK]
        projected = _projected(rows_VN, directions, own_turn_K, ar1=ar1)
        hundredths_VK = projected.hundredths_VK
        least = int(hundredths_VK.min())
        is_there = np.bincount((hundredths_VK - least).reshape(-1)) > 0
        bin_VK = (np.cumsum(is_there) - 1)[hundredths_VK - least]
        rho_B = (np.flatnonzero(is_there) + least) / AR_BINS
        estimates_2VK = np.empty((2, len(rows_VN), n_trials))
        estimate(
            projected,
            bin_VK,
            (rho_B, cross_KR, own_turn_K, np.ascontiguousarray(unit_KT[:, -1])),
            (shared.probe_R, q_TR[-1].copy()),
            _tables(directions, cross_KR, own_turn_K, rho_B),
            n_frames - rank - 1,
            estimates_2VK,
        )
        out_KV[:, :, start : start + _BLOCK] = estimates_2VK.swapaxes(1, 2)
    return out_KV[0], out_KV[1]


class _Projected(NamedTuple):
    """Per voxel: e'e, the sum of e_i e_(i+1), the last e, and the sum's coefficient in QQ'y; Q'He; and per trial u'e,
    u'He, and the AR(1) coefficient in hundredths."""

    voxel_V4: Float64Array
    shared_VR: Float64Array
    own_VK: Float64Array
    turned_VK: Float64Array
    hundredths_VK: NDArray[np.int64]


def _projected(
    rows_VN: NDArray[np.float32], directions: Directions, own_turn_K: Float64Array, *, ar1: bool
) -> _Projected:
    size, n_trials = len(rows_VN), len(directions.unit_KT)
    q_TR, probe_R = directions.shared
    out = _Projected(
        np.empty((size, 4)),
        np.empty((size, len(probe_R))),
        np.empty((size, n_trials)),
        np.empty((size, n_trials)),
        np.zeros((size, n_trials), np.int64),
    )
    own_K = directions.own_KT, directions.from_K, directions.to_K, directions.unit_KT, directions.length_K
    project(rows_VN, np.ascontiguousarray(q_TR.T), probe_R, own_K, directions.inside_KR, own_turn_K, ar1, out)
    return out


class _Tables(NamedTuple):
    """Per bin, and per trial and bin, with G the shared columns' matrix of the bin, F = u'HQ, q = Q's last row, g the
    functional that reads the estimate, split in the part of Q and that of u, s the Schur complement of the trial.

    inverse_BRR : G^-1. last_B : q'G^-1 q. probe_last_B : g'G^-1 q
    cross_BK, cross_last_BK : F'G^-1 F and F'G^-1 q
    weight_BK : of u's product with the whitened series. schur_BK : s. variance_BK : of the estimate under unit noise
    """

    inverse_BRR: Float64Array
    last_B: Float64Array
    probe_last_B: Float64Array
    cross_BK: Float64Array
    cross_last_BK: Float64Array
    weight_BK: Float64Array
    schur_BK: Float64Array
    variance_BK: Float64Array


def _tables(directions: Directions, cross_KR: Float64Array, own_turn_K: Float64Array, rho_B: Float64Array) -> _Tables:
    (q_TR, probe_R), unit_KT = directions.shared, directions.unit_KT
    last_R, unit_last_K = q_TR[-1], unit_KT[:, -1]
    # The trial's coefficient next to that of all other events is that next to the sum of all, plus the sum's.
    probe_K = (1.0 - directions.inside_KR @ probe_R) / directions.length_K
    inverse_BRR = np.linalg.inv(gram_matrices(q_TR, rho_B))
    rho_B1 = rho_B[:, None]
    cross_solved_BKR = cross_KR @ inverse_BRR
    last_solved_BR = inverse_BRR @ last_R
    cross_BK = np.einsum("bkr,kr->bk", cross_solved_BKR, cross_KR)
    cross_last_BK = cross_solved_BKR @ last_R
    last_B = last_solved_BR @ last_R
    # The border is w = Q'L'Lu = -rho F - rho^2 u_last q.
    of_last_BK = rho_B1**2 * unit_last_K
    border_BK = rho_B1**2 * cross_BK + 2.0 * rho_B1 * of_last_BK * cross_last_BK + of_last_BK**2 * last_B[:, None]
    corner_BK = 1.0 - rho_B1 * own_turn_K + rho_B1**2 * (1.0 - unit_last_K**2)
    schur_BK = corner_BK - border_BK
    probe_last_B = last_solved_BR @ probe_R
    probe_border_BK = -rho_B1 * (cross_solved_BKR @ probe_R) - of_last_BK * probe_last_B[:, None]
    weight_BK = (probe_K - probe_border_BK) / schur_BK
    probe_B = np.einsum("r,brs,s->b", probe_R, inverse_BRR, probe_R)
    variance_BK = probe_B[:, None] + (probe_K - probe_border_BK) * weight_BK
    return _Tables(
        np.ascontiguousarray(inverse_BRR),
        last_B,
        probe_last_B,
        cross_BK,
        cross_last_BK,
        weight_BK,
        schur_BK,
        variance_BK,
    )


def _neighbours(x_KT: Float64Array) -> Float64Array:
    """H x: the sum of each frame's two neighbours."""
    out_KT = np.zeros_like(x_KT)
    out_KT[:, :-1] += x_KT[:, 1:]
    out_KT[:, 1:] += x_KT[:, :-1]
    return out_KT
