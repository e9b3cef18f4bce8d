"""A small simulated run through ingest before the first session, so that its first volume is as fast as the rest.

Knows nothing of sessions, the bus or the blob store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mindsight.glm import Event
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.space import SubjectSpace
from mindsight.volume import Volume

N_VOLUMES = 24


def warm_up() -> None:
    """Compile every kernel, with the options that a calibrated subject may have and without them."""
    from mindsight.simulator.anatomy import GRID, grid_affine, grid_points

    points = grid_points(GRID, grid_affine())
    radius = np.sqrt(((points / np.array([70.0, 86.0, 60.0]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
    data = np.where(radius < 1.0, 800.0 + 100.0 * np.sin(points[0] / 9.0) * np.cos(points[1] / 11.0), 0.0)
    rng = np.random.default_rng(0)
    volumes = [
        Volume((data + rng.normal(0.0, 5.0, GRID)).astype(np.int16), grid_affine(), 1.0, 1, index)
        for index in range(N_VOLUMES)
    ]
    space = _run_through(IngestOptions(fast_s=2.0, revised_s=None), None, volumes)
    calibrated = replace(
        space,
        hrf_V=(np.arange(space.n_voxels) % 2).astype(np.uint8),
        noise_pool_V=np.arange(space.n_voxels) % 3 == 0,
    )
    _run_through(IngestOptions(ridge_fraction=0.5, n_noise_components=1), calibrated, volumes)


def _run_through(options: IngestOptions, space: SubjectSpace | None, volumes: Sequence[Volume]) -> SubjectSpace:
    """A run of these volumes with one trial; returns the space that it was in."""
    ingest = IngestSession(options, space, clock=time.perf_counter)
    ingest.start_run(1, 1.0, len(volumes))
    ingest.add_event(1, Event(0.0, 1.0, 1))
    for volume in volumes:
        ingest.push(volume)
    ingest.end_run(1)
    assert ingest.space is not None
    return ingest.space
