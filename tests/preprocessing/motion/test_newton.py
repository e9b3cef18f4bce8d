"""One step against what it must be: nothing for what is no motion, the twist for what is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.memory_order import Grid, in_memory_order
from mindsight.preprocessing.motion.newton import LENGTH_MM, Frame, Points, instrument, pair_voxels, step
from mindsight.preprocessing.motion.spline import prefilter
from mindsight.preprocessing.motion.voxel_selection import head_with_outline, strongest_gradients
from support.phantoms import Phantom

QUIET = Phantom(noise=0.0)


@pytest.fixture(scope="module")
def stage() -> tuple[Points, Frame, NDArray[np.float32], Grid]:
    values, grid = in_memory_order(QUIET.volume(dtype=np.float32))
    smooth = ndimage.gaussian_filter(values, 0.53, mode="mirror")
    chosen = strongest_gradients(smooth, head_with_outline(values, grid.voxel_mm), grid.voxel_mm)
    ijk_N3 = np.argwhere(chosen).astype(np.int16)
    return *instrument(prefilter(values), prefilter(smooth), grid.affine, QUIET.centre_mm, ijk_N3), values, grid


def size_mm(twist: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(twist[:3]) + LENGTH_MM * np.linalg.norm(twist[3:]))


def every(grid: Grid) -> NDArray[np.bool_]:
    return np.ones(grid.n_slices, np.bool_)


@pytest.mark.slow
def test_a_receive_field_of_second_order_an_offset_and_a_gain_are_no_motion(stage) -> None:
    points, frame, values, grid = stage
    u = [(np.arange(n) - (n - 1) / 2) / n for n in grid.shape]
    x, y, z = np.meshgrid(*u, indexing="ij")
    field = 1.0 + 0.4 * x - 0.3 * y + 0.5 * x * x - 0.4 * y * z + 0.6 * z * z
    seen = (1.3 * field * values + 40.0).astype(np.float32)
    twist = step(frame, points, pair_voxels(frame, points, grid, seen, np.eye(4), every(grid)), 1.3)
    assert size_mm(twist) < 1e-3
    cubic = (1.3 * (field + 2.0 * x**3) * values).astype(np.float32)  # what is not of second order does pull
    assert size_mm(step(frame, points, pair_voxels(frame, points, grid, cubic, np.eye(4), every(grid)), 1.3)) > 1e-2


@pytest.mark.parametrize("keep", [slice(None), slice(0, 14), slice(9, 20)])
def test_a_small_motion_is_found_in_one_step_whichever_slices_are_kept(stage, keep: slice) -> None:
    """A step leaves a twentieth of itself, as long as it is short against the voxels."""
    points, frame, _, grid = stage
    moved = np.array([0.3, -0.2, 0.25, *np.radians([0.3, -0.2, 0.25])])
    motion = rigid.exponential(moved, frame.centre_mm)
    volume, _ = in_memory_order(QUIET.volume(motion, dtype=np.float32))
    keep_Z = np.zeros(grid.n_slices, np.bool_)
    keep_Z[keep] = True
    twist = step(frame, points, pair_voxels(frame, points, grid, volume, np.eye(4), keep_Z), 1.0)
    assert size_mm(twist + moved) < 0.15 * size_mm(moved)  # from the volume to the reference: the inverse


def test_shares_are_spread_evenly_and_nothing_is_found_where_nothing_is_seen(stage) -> None:
    points, frame, values, grid = stage
    few = points.share(0.25)
    assert abs(len(few.ijk_N3) / len(points.ijk_N3) - 0.25) < 0.01
    per_slice = [np.bincount(p.ijk_N3[:, 2], minlength=grid.n_slices) for p in (few, points)]
    np.testing.assert_allclose(per_slice[0], 0.25 * per_slice[1], atol=0.1 * per_slice[1].max())
    paired = pair_voxels(frame, points, grid, values, np.eye(4), np.zeros(grid.n_slices, np.bool_))
    assert paired.values_K.shape == (0,)
    assert np.isnan(step(frame, points, paired, 1.0)).all()
