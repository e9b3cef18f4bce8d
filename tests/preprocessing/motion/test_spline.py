from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mindsight.preprocessing.motion import spline
from support.tolerance import rounding

CLOSE = 1000 * rounding(4**3)  # of a sum of 64 products, with weights that sum to 1, of values up to 1000


@pytest.mark.parametrize("shape", [(20, 17, 30), (5, 9, 2), (3, 2, 40), (14, 13, 15), (74, 74, 36)])
def test_prefilter_equals_scipys(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(1).uniform(0, 1000, shape).astype(np.float32)
    expected = ndimage.spline_filter(values.astype(np.float64), order=3, mode="mirror")
    got = spline.prefilter(values)[1:-2, 1:-2, 1:-2]
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max())


def test_an_axis_of_one_sample_is_left_as_it_is() -> None:
    values = np.random.default_rng(1).uniform(0, 1000, (12, 11, 1)).astype(np.float32)
    expected = ndimage.spline_filter1d(
        ndimage.spline_filter1d(values.astype(np.float64), 3, axis=0, mode="mirror"), 3, axis=1, mode="mirror"
    )
    np.testing.assert_allclose(spline.prefilter(values)[1:-2, 1:-2, 1:-2], expected, rtol=0, atol=5e-3)


def test_values_between_voxels_equal_scipys() -> None:
    rng = np.random.default_rng(2)
    values = rng.uniform(0, 1000, (21, 18, 25)).astype(np.float32)
    points = rng.uniform(0, 1, (500, 3)) * (np.array(values.shape) - 1)
    expected = ndimage.map_coordinates(values.astype(np.float64), points.T, order=3, mode="mirror")
    got = spline.sample_points(spline.prefilter(values), np.eye(4)[:3].copy(), points)
    np.testing.assert_allclose(got, expected, atol=CLOSE)


def test_voxels_themselves_come_back_and_the_edge_repeats() -> None:
    values = np.random.default_rng(3).uniform(0, 1000, (7, 8, 9)).astype(np.float32)
    coef = spline.prefilter(values)
    out = np.empty(values.shape, np.float32)
    spline.sample_grid(coef, np.eye(4)[:3].copy(), out)
    np.testing.assert_allclose(out, values, atol=CLOSE)
    beyond = spline.sample_points(coef, np.eye(4)[:3].copy(), np.array([[-4.0, 3.0, 20.0]]))
    np.testing.assert_allclose(beyond, values[0, 3, 8], atol=CLOSE)
    nowhere = spline.sample_points(coef, np.eye(4)[:3].copy(), np.array([[np.nan, np.inf, -np.inf]]))
    np.testing.assert_allclose(nowhere, values[0, 0, 0], atol=CLOSE)


def test_points_mask_and_grid_agree() -> None:
    rng = np.random.default_rng(4)
    coef = spline.prefilter(rng.uniform(0, 1000, (20, 22, 24)).astype(np.float32))
    m = np.array([[0.99, 0.02, -0.01, 0.3], [-0.02, 1.0, 0.03, -0.4], [0.01, -0.03, 0.98, 0.5]])
    grid = np.empty((18, 19, 21), np.float32)
    spline.sample_grid(coef, m, grid)
    mask = rng.random(grid.shape) < 0.2
    np.testing.assert_allclose(spline.sample_mask(coef, m, mask), grid[mask], atol=CLOSE)
    np.testing.assert_allclose(spline.sample_points(coef, m, np.argwhere(mask).astype(float)), grid[mask], atol=CLOSE)


def test_the_gradient_is_the_slope_of_the_value() -> None:
    values = ndimage.gaussian_filter(np.random.default_rng(5).uniform(0, 1000, (16, 16, 16)), 1.5).astype(np.float32)
    coef, step = spline.prefilter(values), 0.05
    ijk = np.array([[6, 7, 9], [3, 11, 5]], np.int16)
    points, shift = ijk.astype(float), np.array([0.3, 0.8, 0.1])
    found = spline.gradient_voxels(coef, np.c_[np.eye(3), shift], ijk)
    np.testing.assert_allclose(found[:, 0], spline.sample_points(coef, np.c_[np.eye(3), shift], points), rtol=1e-5)
    for axis in range(3):
        ahead, behind = (
            spline.sample_points(coef, np.c_[np.eye(3), shift + sign * step * np.eye(3)[axis]], points)
            for sign in (1, -1)
        )
        np.testing.assert_allclose(found[:, 1 + axis], (ahead - behind) / (2 * step), atol=0.03)
