"""The voxels of the reference from which the pose is estimated.

Knows nothing of poses. Scalp and outline carry much of the information, and half of the head's voxels carry nearly all
of it: on simulated 2 mm volumes the stronger half gives the error that all give (0.003 mm, see docs/preprocessing.md).
A quarter, chosen so, is nearly outline alone and five times worse. Strength is measured on the smoothed reference;
picking strong gradients of the raw one picks its noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.preprocessing.mask import brain_mask

SHELL_MM = 5.0
MAX_VOXELS = 140_000


def head_with_outline(values: NDArray[np.float32], voxel_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(X, Y, Z) bool, the head and everything within SHELL_MM of it."""
    return np.asarray(ndimage.distance_transform_edt(~brain_mask(values), sampling=voxel_mm) <= SHELL_MM)


def strongest_gradients(
    smooth: NDArray[np.float32], use: NDArray[np.bool_], voxel_mm: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The MAX_VOXELS voxels of ``use`` with the strongest gradients.

    Without those on the faces of the grid, half of whose neighbourhood is unknown and which the slightest motion moves
    out of the grid.
    """
    use = use & np.pad(np.ones([n - 2 for n in use.shape], np.bool_), 1)
    wanted = min(int(use.sum()), MAX_VOXELS)
    square = np.zeros(smooth.shape, np.float32)
    for slope, mm in zip(np.gradient(smooth), voxel_mm.tolist(), strict=True):
        square += (slope / mm) ** 2
    threshold = np.partition(square[use], -wanted)[-wanted]
    return np.asarray(use & (square >= threshold))
