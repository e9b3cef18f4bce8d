"""Events and the design of one trial among the others: least squares, separate (LSS).

Knows nothing of voxels or noise. Letters: T frames, K events, P regressors, C confounds.

LSS (Mumford et al. 2012, NeuroImage 59:2636-2643): one column for the trial, one for all other events that
have started, then confounds, a one-hot column per censored frame, cosine drifts and the constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.glm.hrf import MIN_ONSET_S


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the participant.

    onset_s : seconds from the start of the run's first volume, more than -24
    duration_s : 0 is an impulse
    trial : number of the trial in its run; None for an event that is modelled but not decoded

    Raises BadRequest (``event.invalid``) if the times are not finite or out of range.
    """

    onset_s: float
    duration_s: float
    trial: int | None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.onset_s) and self.onset_s > MIN_ONSET_S):
            raise BadRequest(f"expected an onset after {MIN_ONSET_S:g} s, got {self.onset_s!r} s", code="event.invalid")
        if not (math.isfinite(self.duration_s) and self.duration_s >= 0.0):
            raise BadRequest(f"expected a duration of 0 s or more, got {self.duration_s!r} s", code="event.invalid")


def cosine_drifts(n_frames: int, tr_s: float, high_pass_hz: float, n_planned: int | None = None) -> NDArray[np.float64]:
    """(T, n + 1) slow cosines below ``high_pass_hz`` for two or more frames, and the constant as last column.

    The discrete cosine basis (nilearn's ``create_cosine_drift``): over the frames so far, so that it changes with every
    frame; or over ``n_planned`` frames (two or more), of which these are the first.
    """
    n = n_frames if n_planned is None else n_planned
    # Not tr_s: nilearn takes (t[-1] - t[0]) / (n - 1) of the frame times t, whose rounding can differ from tr_s in the
    # last bit, and the floor below can turn that bit into one cosine more or less.
    step_s = tr_s * (n - 1) / (n - 1)
    order = min(n - 1, math.floor(2 * n * high_pass_hz * step_s))
    k = np.arange(1, order + 1)
    cosines = math.sqrt(2.0 / n) * np.cos((np.pi / n) * (np.arange(n_frames)[:, None] + 0.5) * k)
    return np.column_stack([cosines, np.ones(n_frames)])


def nuisance(
    confounds_TC: NDArray[np.float64],
    censored_T: NDArray[np.bool_],
    tr_s: float,
    high_pass_hz: float,
    n_planned: int | None = None,
) -> NDArray[np.float64]:
    """(T, P) columns beside the events: confounds, one column per censored frame, drifts, constant."""
    n_frames = censored_T.size
    spikes = np.zeros((n_frames, int(censored_T.sum())))
    spikes[np.flatnonzero(censored_T), np.arange(spikes.shape[1])] = 1.0
    return np.hstack([confounds_TC, spikes, cosine_drifts(n_frames, tr_s, high_pass_hz, n_planned)])


def lss_design(regressors_TK: NDArray[np.float64], probe: int, nuisance_TP: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, P) column 0 the probed event, column 1 the sum of the others (absent if there is none), the nuisance."""
    columns = [regressors_TK[:, probe]]
    if regressors_TK.shape[1] > 1:
        columns.append(np.delete(regressors_TK, probe, axis=1).sum(axis=1))
    return np.column_stack([*columns, nuisance_TP])
