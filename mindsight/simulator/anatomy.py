"""A simulated head: EPI-like contrast as a function of position, and the location of its visual cortex.

Knows nothing of time, motion or noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.preprocessing.motion.spline import prefilter

GRID = (40, 44, 24)
VOXEL_MM = 5.0
STRIP_VOXELS = 40  # voxels of about the same eccentricity


def grid_affine(shape: tuple[int, int, int] = GRID, voxel_mm: float = VOXEL_MM) -> NDArray[np.float64]:
    """(4, 4) affine of an axial grid centred on the scanner's origin."""
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = -voxel_mm * (np.array(shape) - 1) / 2.0
    return affine


def grid_points(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, X, Y, Z) millimetres of every voxel centre."""
    ijk = np.indices(shape).reshape(3, -1)
    return np.asarray((affine[:3, :3] @ ijk + affine[:3, 3:]).reshape(3, *shape))


def _inside(
    points: NDArray[np.float64], centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Normalised radius in an ellipsoid: below 1 inside."""
    scaled = (points - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
    return np.asarray(np.sqrt((scaled**2).sum(axis=0)))


def _contrast(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """T2*-like intensity: fluid brighter than grey than white matter; dark skull, suppressed scalp, bright eyes."""
    x, _, z = points
    image = np.zeros(points.shape[1:])
    head = _inside(points, (0, -2, -6), (82, 100, 74))
    image[head < 1.0] = 320.0
    image[head < 0.94] = 70.0
    brain = _inside(points, (0, -4, -4), (70, 86, 60))
    folds = sum(
        np.sin(points.T @ direction + phase).T
        for direction, phase in zip(rng.normal(0, 0.11, (5, 3)), rng.uniform(0, 6.3, 5), strict=True)
    )
    image = np.where(brain < 1.0, 1050.0, image)
    ribbon = 0.94 - 0.035 * folds
    image = np.where(brain < ribbon, 820.0 + 25.0 * folds, image)
    image = np.where(brain < ribbon - 0.14 - 0.05 * np.sin(0.12 * x + 0.1 * z), 640.0, image)
    image = np.where((np.abs(x) < 2.0) & (brain < 1.0) & (z > -15), 950.0, image)
    for side in (-1.0, 1.0):
        image = np.where(_inside(points, (side * 12, -8, 8), (7, 26, 11)) < 1.0, 1080.0, image)
        image = np.where(_inside(points, (side * 14, 10, -4), (8, 14, 9)) < 1.0, 730.0, image)
        image = np.where(_inside(points, (side * 31, 78, -30), (12, 12, 12)) < 1.0, 1150.0, image)
    dropout = 1.0 - 0.6 * np.exp(-(_inside(points, (0, 62, -42), (28, 24, 20)) ** 2))
    return image * dropout


@dataclass(frozen=True, slots=True)
class Head:
    """One participant's head in its own space (mm): a fine image, and the scanner voxels of its visual cortex.

    fine_XYZ : intensities (2X, 2Y, 2Z) at half the voxel size, blurred to the scanner's resolution, as the cubic
        B-spline coefficients of ``prefilter``
    fine_affine : (4, 4)
    visual_V3 : (V, 3) indices, on the scanner's grid at rest, of the voxels that respond to images
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    fine_XYZ: NDArray[np.float32]
    fine_affine: NDArray[np.float64]
    visual_V3: NDArray[np.intp]


def make_head(
    seed: int, left_V: NDArray[np.bool_], centre_V2: NDArray[np.float64], shape: tuple[int, int, int] = GRID
) -> Head:
    """The head of participant ``seed``, with the visual voxels laid out as a map.

    The fovea is at the back of the head, the periphery further to the front; the upper half of the image is represented
    below the lower half.

    left_V : which visual voxels lie in the left hemisphere
    centre_V2 : centre of each voxel's receptive field in the image, x and y
    """
    rng = np.random.default_rng([seed, 3])
    affine = grid_affine(shape)
    fine_shape = (shape[0] * 2, shape[1] * 2, shape[2] * 2)
    fine_affine = grid_affine(fine_shape, VOXEL_MM / 2.0)
    image = ndimage.gaussian_filter(_contrast(grid_points(fine_shape, fine_affine), rng), 0.9)
    coefficients = prefilter(np.ascontiguousarray(image, np.float32))

    points = grid_points(shape, affine)
    brain = _inside(points, (0, -4, -4), (70, 86, 60))
    posterior = (brain < 0.93) & (points[1] < -22.0) & (np.abs(points[0]) > 2.0)
    visual_V3 = np.empty((len(left_V), 3), dtype=np.intp)
    for hemisphere, wanted in ((-1.0, left_V), (1.0, ~left_V)):
        there = np.argwhere(posterior & (np.sign(points[0]) == hemisphere))
        if len(there) < wanted.sum():
            raise ValueError(
                f"expected at most {len(there)} visual voxels in one hemisphere, got {wanted.sum()}: ask for fewer"
            )
        # from the back of the head forwards, so that the visual cortex is one patch
        from_back = np.argsort(points[1][tuple(there.T)] + rng.normal(0, 2.0, len(there)))[: int(wanted.sum())]
        from_fovea = np.flatnonzero(wanted)[np.argsort(np.linalg.norm(centre_V2[wanted], axis=1))]
        for strip in np.array_split(np.arange(len(from_fovea)), max(1, len(from_fovea) // STRIP_VOXELS)):
            positions, voxels = there[from_back[strip]], from_fovea[strip]
            visual_V3[voxels[np.argsort(centre_V2[voxels, 1])]] = positions[np.argsort(positions[:, 2], kind="stable")]
    return Head(shape, affine, coefficients, fine_affine, visual_V3)
