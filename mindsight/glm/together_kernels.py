"""The compiled loops of ``together``, which has their mathematics and letters.

Knows nothing of designs. Sums may be reordered (``reassoc``), but always in the same way on one processor.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from mindsight.glm.noise import AR_BINS

# Small functions are inlined here: as calls from the innermost loop they cost a third of its time.
_INLINED: Any = {"nogil": True, "cache": True, "fastmath": {"reassoc", "contract"}, "inline": "always"}
# A coefficient this close to a cut, in hundredths, is computed again from the residuals themselves.
_DOUBT = 1e-7


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def project(
    series_VN: Any,
    q_RT: Any,
    probe_R: Any,
    own_K: Any,
    inside_KR: Any,
    own_turn_K: Any,
    ar1: bool,
    out: Any,
) -> None:
    """Fills ``together``'s ``_Projected``; the coefficients stay 0 unless ``ar1``."""
    voxel_V4, shared_VR, own_VK, turned_VK, hundredths_VK = out
    own_KT, from_K, to_K, unit_KT, length_K = own_K
    rank, n = q_RT.shape
    e_T, turned_T, inside_R = np.empty(n), np.empty(n), np.empty(rank)
    for v in range(series_VN.shape[0]):
        _project_voxel(series_VN[v], q_RT, probe_R, (e_T, turned_T, inside_R), voxel_V4[v], shared_VR[v])
        square, lagged = voxel_V4[v, 0], voxel_V4[v, 1]
        for k in range(own_KT.shape[0]):
            x = own_KT[k]
            own, turned = 0.0, 0.0
            for i in range(from_K[k], to_K[k]):
                own += x[i] * e_T[i]
                turned += x[i] * turned_T[i]
            for r in range(rank):
                turned -= inside_KR[k, r] * shared_VR[v, r]
            own, turned = own / length_K[k], turned / length_K[k]
            own_VK[v, k], turned_VK[v, k] = own, turned
            if ar1:
                r0 = square - own * own
                r1 = lagged - own * turned + 0.5 * own * own * own_turn_K[k]
                rho = AR_BINS * _coefficient(r0, r1, n)
                if abs(rho - np.rint(rho)) <= _DOUBT:
                    rho = AR_BINS * _coefficient_of(e_T, own, unit_KT[k])
                hundredths_VK[v, k] = int(rho)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _project_voxel(y: Any, q_RT: Any, probe_R: Any, work: Any, voxel_4: Any, shared_R: Any) -> None:
    """One voxel's part of ``together``'s ``_Projected``, and in ``work`` e, He and Q'y."""
    e_T, turned_T, inside_R = work
    rank, n = q_RT.shape
    for i in range(n):
        e_T[i] = y[i]
    for r in range(rank):
        q = q_RT[r]
        total = 0.0
        for i in range(n):
            total += q[i] * e_T[i]
        inside_R[r] = total
    probe = 0.0
    for r in range(rank):
        q, inside = q_RT[r], inside_R[r]
        probe += probe_R[r] * inside
        for i in range(n):
            e_T[i] -= inside * q[i]
    turned_T[0], turned_T[n - 1] = e_T[1], e_T[n - 2]
    for i in range(1, n - 1):
        turned_T[i] = e_T[i - 1] + e_T[i + 1]
    square, lagged = 0.0, 0.0
    for i in range(n):
        square += e_T[i] * e_T[i]
        lagged += e_T[i] * turned_T[i]
    lagged *= 0.5
    voxel_4[0], voxel_4[1], voxel_4[2], voxel_4[3] = square, lagged, e_T[n - 1], probe
    for r in range(rank):
        q = q_RT[r]
        total = 0.0
        for i in range(n):
            total += q[i] * turned_T[i]
        shared_R[r] = total


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _coefficient_of(e_T: Any, own: float, u: Any) -> float:
    """The coefficient of a trial's residuals, e - (u'e) u, computed from the residuals themselves."""
    n = e_T.size
    before = e_T[0] - own * u[0]
    r0, r1 = before * before, 0.0
    for i in range(1, n):
        now = e_T[i] - own * u[i]
        r0 += now * now
        r1 += now * before
        before = now
    return _coefficient(r0, r1, n)


@numba.njit(nogil=True, cache=True)
def _coefficient(r0: float, r1: float, n: int) -> float:
    """Lag-1 over lag-0 covariance, each divided by its number of products; 0 without residuals."""
    return 0.0 if r0 <= 0.0 else (r1 / (n - 1)) / (r0 / n)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def estimate(
    projected: Any, bin_VK: Any, of_trials: Any, of_shared: Any, tables: Any, n_left: int, out_2VK: Any
) -> None:
    """The betas and their standard errors, from what ``project`` left and the tables."""
    voxel_V4, shared_VR, own_VK, turned_VK, _ = projected
    rho_B, cross_KR, own_turn_K, unit_last_K = of_trials
    probe_R, last_R = of_shared
    inverse_BRR, last_B, probe_last_B, cross_BK, cross_last_BK, weight_BK, schur_BK, variance_BK = tables
    beta_VK, error_VK, n_bins = out_2VK[0], out_2VK[1], rho_B.size
    solved_BR, known_B = np.empty((n_bins, last_R.size)), np.full(n_bins, -1)
    square_B, last_with_B, probe_with_B = np.empty(n_bins), np.empty(n_bins), np.empty(n_bins)
    for v in range(own_VK.shape[0]):
        square, lagged, end, probe = voxel_V4[v, 0], voxel_V4[v, 1], voxel_V4[v, 2], voxel_V4[v, 3]
        shared_R = shared_VR[v]
        for k in range(own_VK.shape[1]):
            b = bin_VK[v, k]
            solved_R = solved_BR[b]
            if known_B[b] != v:  # most trials of a voxel have one of few coefficients
                known_B[b] = v
                products = _shared_products(inverse_BRR[b], shared_R, last_R, probe_R, solved_R)
                square_B[b], last_with_B[b], probe_with_B[b] = products
            with_cross = _dot(cross_KR[k], solved_R)
            rho, own, turned, u_last = rho_B[b], own_VK[v, k], turned_VK[v, k], unit_last_K[k]
            rho2, with_last, weight = rho * rho, last_with_B[b], weight_BK[b, k]
            cross, cross_last, last = cross_BK[b, k], cross_last_BK[b, k], last_B[b]
            # products of the border, solved, with Q'He, with F and with q
            border_shared = -rho * with_cross - rho2 * u_last * with_last
            border_cross = -rho * cross - rho2 * u_last * cross_last
            border_last = -rho * cross_last - rho2 * u_last * last
            own_whitened = own - rho * turned + rho2 * (own - u_last * end)
            beta_VK[v, k] = (
                probe
                - rho * (probe_with_B[b] - weight * border_shared)
                - rho2 * end * (probe_last_B[b] - weight * border_last)
                + weight * own_whitened
            )
            r0 = square - own * own
            r1 = lagged - own * turned + 0.5 * own * own * own_turn_K[k]
            left_end = end - own * u_last
            left = r0 - 2.0 * rho * r1 + rho2 * (r0 - left_end * left_end)
            # what whitening lets the design explain of the residuals: Q'L'L and u'L'L times them, and their form
            of_own = -rho * (turned - own * own_turn_K[k]) - rho2 * u_last * left_end
            form = rho2 * (
                square_B[b]
                + own * own * cross
                + rho2 * left_end * left_end * last
                - 2.0 * own * with_cross
                + 2.0 * rho * left_end * with_last
                - 2.0 * rho * own * left_end * cross_last
            )
            over = of_own - (-rho * border_shared + rho * own * border_cross - rho2 * left_end * border_last)
            left -= form + over * over / schur_BK[b, k]
            error_VK[v, k] = np.sqrt(max(left, 0.0) / n_left * variance_BK[b, k])


@numba.njit(**_INLINED)
def _shared_products(inverse_RR: Any, shared_R: Any, last_R: Any, probe_R: Any, solved_R: Any) -> Any:
    """Fills G^-1 Q'He and returns its products with Q'He, Q's last row and the probe."""
    square, with_last, with_probe = 0.0, 0.0, 0.0
    for r in range(shared_R.size):
        total = 0.0
        for c in range(shared_R.size):
            total += inverse_RR[r, c] * shared_R[c]
        solved_R[r] = total
        square += total * shared_R[r]
        with_last += total * last_R[r]
        with_probe += total * probe_R[r]
    return square, with_last, with_probe


@numba.njit(**_INLINED)
def _dot(a_R: Any, b_R: Any) -> float:
    total = 0.0
    for r in range(a_R.size):
        total += a_R[r] * b_R[r]
    return total
