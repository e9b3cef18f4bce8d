"""Small runs to lead through ingest: a slice of brain without motion, and a head of blobs that moves."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.glm import Event
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.ingest.state import IngestState
from mindsight.volume import Volume

TR_S = 1.5
OPTIONS = IngestOptions(revised_s=16.0)


class Ticks:
    """A clock that counts how often it was asked."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def slice_data(n_volumes: int, seed: int = 0) -> NDArray[np.float32]:
    """(T, 16, 14, 1): a bright disc in the dark, noise, and every 12 s from 3 s on a response in its left half."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[:16, :14]
    disc = ((x - 7.5) ** 2 + (y - 6.5) ** 2 < 30)[None, :, :, None]
    data = 20 + 800 * disc + rng.normal(0, 8, (n_volumes, 16, 14, 1))
    for i in range(n_volumes):
        phase_s = (i * TR_S - 3.0) % 12.0 if i * TR_S >= 3.0 else 0.0
        data[i, :8] += 40 * disc[0, :8] * np.exp(-((phase_s - 6.0) ** 2) / 8)
    return data.astype(np.float32)


def head_data(n_volumes: int, seed: int = 0) -> NDArray[np.int16]:
    """(T, 20, 22, 14): a textured ellipsoid, still but for noise and a slow shift along x."""
    rng = np.random.default_rng(seed)
    x, y, z = np.mgrid[:20, :22, :14]
    inside = ((x - 9.5) / 7) ** 2 + ((y - 10.5) / 8) ** 2 + ((z - 6.5) / 5) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.normal(0, 1, inside.shape), 1.5)
    still = ndimage.gaussian_filter(inside * (800 + 2500 * texture), 0.6)
    moved = [ndimage.shift(still, (0.01 * i, 0, 0), order=3) + rng.normal(0, 5, still.shape) for i in range(n_volumes)]
    return np.array(moved).astype(np.int16)


def volume(data_TXYZ: NDArray[np.generic], index: int, run: int = 1, mm: float = 3.0) -> Volume:
    return Volume(data_TXYZ[index], np.diag([mm, mm, mm, 1.0]), TR_S, run, index)


def slice_space(data_TXYZ: NDArray[np.generic]) -> SubjectSpace:
    reference = volume(data_TXYZ, 0)
    return SubjectSpace(reference, reference.data > 400)


def trials(n: int, duration_s: float = 3.0) -> list[Event]:
    return [Event(3.0 + 12.0 * k, duration_s, trial=k + 1) for k in range(n)]


def new_session(options: IngestOptions = OPTIONS, **given: object) -> IngestSession:
    return IngestSession(options, clock=Ticks(), **given)


def named(answers: list[TrialBeta]) -> list[tuple[int, int, str]]:
    return [(answer.run, answer.trial, answer.stage) for answer in answers]


def bits(answers: list[TrialBeta]) -> list[tuple[object, ...]]:
    """The answers, to be compared byte by byte."""
    return [
        (
            *(a.run, a.trial, a.stage, a.n_volumes, a.flagged, a.n_statistics, a.normalised_by),
            *(array_V.tobytes() for array_V in (a.beta_V, a.mean_V, a.std_V)),
        )
        for a in answers
    ]


def through_json(state: IngestState) -> IngestState:
    """The state as it is after a way through files: copies of the arrays, the rest through JSON."""
    return IngestState(
        {name: np.array(array, order="C") for name, array in state.arrays.items()}, json.loads(json.dumps(state.meta))
    )
