"""A subject bundle with a linear decoder over random candidates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume

N_VOXELS, TOKENS, CHANNELS = 40, 4, 16


def ticks() -> Callable[[], float]:
    """A clock that moves on by one second each time it is read."""
    seconds = count()
    return lambda: float(next(seconds))


def linear_bundle(shape: tuple[int, int] = (TOKENS, CHANNELS)) -> Bundle:
    """shape : of one candidate's tokens"""
    rng = np.random.default_rng(0)
    pool = CandidatePool(
        tuple(f"c{i}" for i in range(12)), rng.normal(size=(12, *shape)).astype(np.float32), tuple("abcd" * 3)
    )
    shown = rng.integers(12, size=300)
    z = pool.embeddings[shown].reshape(300, -1) @ rng.normal(size=(shape[0] * shape[1], N_VOXELS))
    z = z / z.std(axis=0) + 0.05 * rng.normal(size=(300, N_VOXELS))
    mask = np.zeros((5, 4, 4), bool)
    mask.flat[:N_VOXELS] = True
    return Bundle(
        subject="sub-01",
        created="2025-01-01T00:00:00Z",
        options=IngestOptions(),
        space=SubjectSpace(Volume(np.zeros((5, 4, 4), np.float32), np.eye(4), tr_s=1.0, run=1, index=0), mask),
        statistics=Statistics(np.zeros(N_VOXELS, np.float32), np.ones(N_VOXELS, np.float32), 300),
        calibration=Calibration(0.1, 0.2, 1.0, 300),
        pool=pool,
        decoder=LinearDecoder.fit(z, pool.embeddings[shown]),
    )
