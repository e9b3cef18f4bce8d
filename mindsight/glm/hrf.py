"""Haemodynamic response functions and event regressors, with nilearn's numbers.

Knows nothing of voxels or noise. Letters: T frames, K events, L samples of the kernel.

nilearn (0.14, ``glm.first_level.hemodynamic_models``) samples each event as a box on a grid about 50 times finer than
the TR, convolves it with the kernel and interpolates at the frame times. The grid starts 24 s before the first frame,
ends with the last one and has a whole number of steps, so its step, and with it the rounding of an onset, shifts a
little with every frame if 24 s are not a whole number of steps. The grid is therefore computed again for each number
of frames, with the same operations in the same order; the convolution of a box is the difference of two values of the
kernel's running sum, which leaves a look-up per event and frame.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

Hrf = Literal["glover", "spm"]

OVERSAMPLING = 50
MIN_ONSET_S = -24.0
KERNEL_S = 32.0


class Shape(NamedTuple):
    """A difference of two gamma densities: both delays and the dispersion of both in seconds, and the size ratio."""

    peak_s: float
    undershoot_s: float
    dispersion_s: float
    ratio: float


# Glover 1999, NeuroImage 9:416-429, auditory response; SPM's spm_hrf defaults
_SHAPES: dict[Hrf, Shape] = {
    "glover": Shape(6.0, 12.0, 0.9, 0.48),
    "spm": Shape(6.0, 16.0, 1.0, 0.167),
}

# The idea of a library to choose from per voxel is GLMsingle's (Prince et al. 2022, eLife 11:e77599), the shapes are
# not: delays from 4 to 8 s, narrow and wide, a weak and a strong undershoot 8 s later. They peak from 2.9 to 7.4 s.
LIBRARY: tuple[Shape, ...] = tuple(
    Shape(peak_s, peak_s + 8.0, dispersion_s, ratio)
    for peak_s in (4.0, 5.0, 6.0, 7.0, 8.0)
    for dispersion_s in (0.6, 1.1)
    for ratio in (0.15, 0.45)
)


def _gamma_pdf(t_s: NDArray[np.float64], shape: float, loc_s: float, scale_s: float) -> NDArray[np.float64]:
    x = np.maximum((t_s - loc_s) / scale_s, 0.0)
    pdf: NDArray[np.float64] = np.exp(xlogy(shape - 1.0, x) - x - gammaln(shape)) / scale_s
    return pdf


def kernel(hrf: Hrf | Shape, tr_s: float) -> NDArray[np.float64]:
    """(L,) response to an impulse, sampled OVERSAMPLING times per TR over 32 s, with sum 1."""
    peak_s, undershoot_s, dispersion, ratio = hrf if isinstance(hrf, Shape) else _SHAPES[hrf]
    dt_s = tr_s / OVERSAMPLING
    t_s = np.linspace(0.0, KERNEL_S, int(np.rint(KERNEL_S / dt_s)))
    h = _gamma_pdf(t_s, peak_s / dispersion, dt_s, dispersion)
    h -= ratio * _gamma_pdf(t_s, undershoot_s / dispersion, dt_s, dispersion)
    h /= h.sum()
    return h


def fine_grid(n_frames: int, tr_s: float) -> NDArray[np.float64]:
    """Times of the fine grid under ``n_frames`` (two or more) frames, in seconds from the first frame."""
    last_s = tr_s * (n_frames - 1)
    end_s = last_s * (1 + 1.0 / (n_frames - 1))
    n_steps = (n_frames - 1) * 1.0 / last_s * ((end_s - MIN_ONSET_S) * OVERSAMPLING)
    return np.linspace(MIN_ONSET_S, end_s, int(np.rint(n_steps + 1)))


def _planned_grid(n_frames: int, tr_s: float, n_planned: int) -> NDArray[np.float64]:
    grid_s = fine_grid(n_planned, tr_s)
    n_more = max(n_frames - n_planned, 0) * (OVERSAMPLING + 1)
    step_s = (grid_s[-1] - grid_s[0]) / (grid_s.size - 1)
    return np.concatenate([grid_s, grid_s[-1] + step_s * np.arange(1, n_more + 1)])


def response_energy(
    kernel_sum_L: NDArray[np.float64], duration_s_K: NDArray[np.float64], tr_s: float
) -> NDArray[np.float64]:
    """(K,) sum over frames of the squared response to one complete, isolated event of this length, averaged over the
    position of the frames in it. Time beyond the length of the kernel adds the same at every step and is not sampled: a
    table in the wrong unit has events of years.
    """
    dt_s = tr_s / OVERSAMPLING
    energy_K = np.empty(duration_s_K.size)
    for duration_s in np.unique(duration_s_K):
        n_steps = max(round(duration_s / dt_s), 1)
        n = min(n_steps, kernel_sum_L.size)
        on_L = np.pad(kernel_sum_L, (0, n), mode="edge")
        off_L = np.pad(kernel_sum_L, (n, 0))
        energy = ((on_L - off_L) ** 2).sum() / OVERSAMPLING + float(n_steps - n) * kernel_sum_L[-1] ** 2 / OVERSAMPLING
        energy_K[duration_s_K == duration_s] = energy
    return energy_K


@numba.njit(nogil=True, cache=True)
def _boxes_at_frames(
    sum_L: NDArray[np.float64],
    on_K: NDArray[np.int64],
    off_K: NDArray[np.int64],
    below_T: NDArray[np.int64],
    weight_T: NDArray[np.float64],
) -> NDArray[np.float64]:
    n_events, n_frames, last = on_K.size, below_T.size, sum_L.size - 1
    out_TK = np.zeros((n_frames, n_events))
    for k in range(n_events):
        on, off = on_K[k], off_K[k]
        for i in range(n_frames):
            n = below_T[i]
            if n + 1 < on or n - off > last:
                continue
            low = (sum_L[min(n - on, last)] if n >= on else 0.0) - (sum_L[min(n - off, last)] if n >= off else 0.0)
            n += 1
            high = (sum_L[min(n - on, last)] if n >= on else 0.0) - (sum_L[min(n - off, last)] if n >= off else 0.0)
            out_TK[i, k] = low + weight_T[i] * (high - low)
    return out_TK


def regressors(
    kernel_sum_L: NDArray[np.float64],
    onset_s_K: NDArray[np.float64],
    duration_s_K: NDArray[np.float64],
    n_frames: int,
    tr_s: float,
    n_planned: int | None = None,
) -> NDArray[np.float64]:
    """(T, K) responses of ``n_frames`` (two or more) frames to each of the events.

    kernel_sum_L : running sum of ``kernel(hrf, tr_s)``
    onset_s_K, duration_s_K : seconds from the first frame; a duration of 0 is an impulse of one step of the fine grid
    n_planned : make the fine grid for this number of frames (two or more) and continue with its step beyond them: a
        frame's response then does not depend on the number of frames
    """
    grid_s = fine_grid(n_frames, tr_s) if n_planned is None else _planned_grid(n_frames, tr_s, n_planned)
    last = grid_s.size - 1
    on_K = np.minimum(np.searchsorted(grid_s, onset_s_K), last)
    off_K = np.minimum(np.searchsorted(grid_s, onset_s_K + duration_s_K), last)
    off_K += (off_K == on_K) & (off_K < last)
    frame_s = tr_s * np.arange(n_frames)
    below_T = np.clip(np.searchsorted(grid_s, frame_s), 1, last) - 1
    weight_T = (frame_s - grid_s[below_T]) / (grid_s[below_T + 1] - grid_s[below_T])
    out_TK: NDArray[np.float64] = _boxes_at_frames(kernel_sum_L, on_K, off_K, below_T, weight_T)
    return out_TK
