"""A registration as an image, for the operator to check. Knows nothing of how the pose was found.

Three planes through the middle of what both volumes cover. Above, a checkerboard of the two: edges must continue
across its lines. Below, the target with the moving head's outlines: they must lie on the target's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.motion.memory_order import in_memory_order
from mindsight.preprocessing.motion.spline import FloatArray, prefilter, sample_points
from mindsight.preprocessing.registration.register import MIN_MARGIN, MIN_OVERLAP, Registration
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

SIDE = 256  # pixels of 1 mm
SQUARE = 24
CAPTION = 20
# axis to the right, axis upwards, letters left and right
PLANES = (
    (1, 2, "P", "A"),
    (0, 2, "L", "R"),
    (0, 1, "L", "R"),
)
RED, GREEN, BLUE, WHITE = (235, 60, 50), (80, 220, 90), (20, 30, 70), (255, 255, 255)


class _View:
    """One volume, sampled anywhere; grey values 0 to 1."""

    def __init__(self, volume: Volume) -> None:
        values, grid = in_memory_order(volume)
        self._coef = prefilter(values)
        self._to_voxel = np.linalg.inv(grid.affine)
        self._last_3 = np.array(grid.shape) - 1
        head = brain_mask(values)
        self.head_points = np.argwhere(head) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        self._white = float(np.percentile(values[head], 99.0))
        self.levels = (np.percentile(values[head], (30.0, 70.0)) / self._white).tolist()

    def grey(self, to_mm: Float64Array, points_N3: Float64Array) -> FloatArray:
        """Values at points, whose way into this volume's mm is ``to_mm`` (4, 4)."""
        matrix = np.ascontiguousarray((self._to_voxel @ to_mm)[:3])
        return np.asarray(np.clip(sample_points(self._coef, matrix, points_N3) / self._white, 0.0, 1.0))

    def covers(self, to_mm: Float64Array, points_N3: Float64Array) -> NDArray[np.bool_]:
        """Whether points lie in the field of view."""
        matrix = self._to_voxel @ to_mm
        voxels = points_N3 @ matrix[:3, :3].T + matrix[:3, 3]
        return np.asarray(((voxels >= -0.5) & (voxels <= self._last_3 + 0.5)).all(axis=1))


def draw_registration(moving: Volume, target: Volume, registration: Registration) -> Pixels:
    """``draw_pose`` of a registration with its figures."""
    figures = (
        f"margin over wrong poses {registration.margin:.2f} (at least {MIN_MARGIN:.2f})   "
        f"overlap {registration.overlap:.2f} (at least {MIN_OVERLAP:.2f})"
    )
    return draw_pose(moving, target, registration.rigid, figures, registration.converged)


def draw_pose(moving: Volume, target: Volume, pose: Float64Array, figures: str, trusted: bool) -> Pixels:
    """(532, 768, 3) uint8: sagittal, coronal and axial plane, 1 mm per pixel, up is up and front is right or up.

    pose : (4, 4) target mm -> moving mm
    figures : the caption, in one line; red unless the pose is ``trusted``

    Blue is outside of the moving volume's field of view. Raises BadVolume (``mask.empty``) if a volume has no head
    in it.
    """
    views = _View(target), _View(moving)
    ways = np.eye(4), pose
    common = views[0].head_points[views[1].covers(pose, views[0].head_points)]
    centre_mm = (common if len(common) else views[0].head_points).mean(axis=0)
    columns = []
    for right, up, *_ in PLANES:
        points_N3 = _plane(centre_mm, right, up)
        grey = [v.grey(way, points_N3).reshape(SIDE, SIDE) for v, way in zip(views, ways, strict=True)]
        seen = [v.covers(way, points_N3).reshape(SIDE, SIDE) for v, way in zip(views, ways, strict=True)]
        checks = _checkerboard(grey, seen)
        columns.append(np.vstack([checks, _outlined(grey, seen, views[1].levels)]))
    return _captioned(np.hstack(columns), figures, trusted)


def _plane(centre_mm: Float64Array, right: int, up: int) -> Float64Array:
    """(SIDE * SIDE, 3) mm of the pixels of a plane, row by row from the top."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    points_N3 = np.tile(centre_mm, (SIDE * SIDE, 1))
    points_N3[:, right] += column - (SIDE - 1) / 2
    points_N3[:, up] -= row - (SIDE - 1) / 2
    return points_N3


def _coloured(grey: FloatArray, seen: NDArray[np.bool_]) -> Pixels:
    pixels = np.repeat((255.0 * grey).astype(np.uint8)[..., None], 3, axis=2)
    pixels[~seen] = 0
    return pixels


def _checkerboard(grey: list[FloatArray], seen: list[NDArray[np.bool_]]) -> Pixels:
    row, column = np.indices(grey[0].shape) // SQUARE
    of_moving = (row + column) % 2 == 1
    pixels = _coloured(grey[0], seen[0])
    pixels[of_moving] = _coloured(grey[1], seen[1])[of_moving]
    pixels[of_moving & ~seen[1]] = BLUE
    return pixels


def _outlined(grey: list[FloatArray], seen: list[NDArray[np.bool_]], levels: list[float]) -> Pixels:
    pixels = _coloured(grey[0], seen[0])
    smooth = ndimage.gaussian_filter(grey[1], 1.5)
    inside = ndimage.binary_erosion(seen[1], iterations=2)
    for level, colour in zip(levels, (GREEN, RED), strict=True):
        above = smooth > level
        pixels[above & ~ndimage.binary_erosion(above) & inside] = colour
    return pixels


def _captioned(pixels: Pixels, figures: str, trusted: bool) -> Pixels:
    height, width = pixels.shape[:2]
    image = Image.new("RGB", (width, height + CAPTION))
    image.paste(Image.fromarray(pixels), (0, CAPTION))
    draw = ImageDraw.Draw(image)
    verdict = "registered" if trusted else "DO NOT USE"
    draw.text((6, 4), f"{verdict}   {figures}", fill=GREEN if trusted else RED)
    for column, (_, _, left, right) in enumerate(PLANES):
        draw.text((column * SIDE + 4, CAPTION + SIDE // 2), left, fill=WHITE)
        draw.text(((column + 1) * SIDE - 10, CAPTION + SIDE // 2), right, fill=WHITE)
    return np.asarray(image, dtype=np.uint8)
