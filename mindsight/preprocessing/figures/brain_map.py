"""One beta drawn on the reference: three slices through the middle of the mask.

Knows nothing of sessions or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindsight.volume import Volume

PANEL_PX = 160
_BLUE = np.array([90, 169, 230], np.float32)
_ORANGE = np.array([230, 140, 60], np.float32)
_GROUND = np.array([21, 26, 33], np.float32)
FULL_SCALE_Z = 3.0


def draw_brain_map(reference: Volume, mask_XYZ: NDArray[np.bool_], z_V: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(PANEL_PX, 3 * PANEL_PX, 3) image: sagittal, coronal, axial slices through the middle of the mask.

    reference, mask_XYZ : the subject's, of one shape; the mask has V voxels
    z_V : (V,) z-scored beta. Voxels are orange above 0 and blue below, full colour at 3.
    """
    z_XYZ = np.zeros(mask_XYZ.shape, np.float32)
    z_XYZ[mask_XYZ] = np.clip(z_V / FULL_SCALE_Z, -1.0, 1.0)
    reference_XYZ = reference.data.astype(np.float32)
    grey_XYZ = reference_XYZ / max(float(np.percentile(reference_XYZ, 99.0)), 1e-6)
    at = [round(float(i.mean())) for i in np.nonzero(mask_XYZ)]
    panels = [
        _panel(np.take(grey_XYZ, at[axis], axis), np.take(z_XYZ, at[axis], axis), _spacing(reference.affine, axis))
        for axis in range(3)
    ]
    return np.concatenate(panels, axis=1)


def _spacing(affine: NDArray[np.float64], axis: int) -> tuple[float, float]:
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    across, up = (float(v) for v in np.delete(voxel_mm, axis))
    return across, up


def _panel(
    grey_AB: NDArray[np.float32], z_AB: NDArray[np.float32], spacing_mm: tuple[float, float]
) -> NDArray[np.uint8]:
    """One slice, nearest neighbour at true proportions, up is up."""
    sides_mm = grey_AB.shape[0] * spacing_mm[0], grey_AB.shape[1] * spacing_mm[1]
    pixel_mm = max(sides_mm) / PANEL_PX
    rows, columns = np.indices((PANEL_PX, PANEL_PX)).astype(np.float32) - (PANEL_PX - 1) / 2.0
    a = np.floor(columns * pixel_mm / spacing_mm[0] + grey_AB.shape[0] / 2.0).astype(int)
    b = np.floor(-rows * pixel_mm / spacing_mm[1] + grey_AB.shape[1] / 2.0).astype(int)
    inside = (a >= 0) & (a < grey_AB.shape[0]) & (b >= 0) & (b < grey_AB.shape[1])
    a, b = a.clip(0, grey_AB.shape[0] - 1), b.clip(0, grey_AB.shape[1] - 1)
    light = np.where(inside, grey_AB[a, b].clip(0.0, 1.0), 0.0)[..., None]
    z = np.where(inside, z_AB[a, b], 0.0)[..., None]
    base = _GROUND + light * (np.array([150, 156, 165], np.float32) - _GROUND)
    colour = np.where(z > 0, _ORANGE, _BLUE)
    pixels = base + np.abs(z) * (colour - base)
    return np.asarray(np.rint(pixels.clip(0, 255)), dtype=np.uint8)
