"""Which voxels of an EPI volume are head: threshold between the two modes, largest component, filled.

Knows nothing of anatomy: skull and eyes may be inside. Set-up code, not for every volume.

References: N. Otsu, IEEE Trans. Systems, Man, Cybernetics 9(1), 1979 (the threshold); the closing and filling follow
what EPI masks commonly do (nilearn's compute_epi_mask, AFNI's 3dAutomask).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.errors import BadVolume


def brain_mask(data_XYZ: NDArray[Any]) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: the head in one EPI volume (or a mean of several).

    Raises BadVolume (``mask.empty``) if nothing stands out from the background.
    """
    data = np.nan_to_num(np.asarray(data_XYZ, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    smooth = ndimage.gaussian_filter(data, [1.0 if n >= 4 else 0.0 for n in data.shape])
    bright = smooth > _otsu(smooth) if smooth.min() < smooth.max() else np.zeros(smooth.shape, np.bool_)
    opened = ndimage.binary_opening(bright, _cross(data.shape))
    labels, n_parts = ndimage.label(opened)
    if n_parts == 0:
        raise BadVolume("expected a volume with a head in it, got no bright region: give a mask", code="mask.empty")
    largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
    mask = ndimage.binary_closing(np.pad(labels == largest, 3), _cross(data.shape), iterations=3)
    mask = mask[3:-3, 3:-3, 3:-3]
    if data.shape[2] > 1:
        mask = ndimage.binary_fill_holes(mask)
    for z in range(data.shape[2]):
        mask[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z])
    return np.asarray(mask, dtype=np.bool_)


def _cross(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A voxel and its face neighbours, without those along an axis of one or two samples."""
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, n in enumerate(shape):
        if n < 3:
            for side in (0, 2):
                index: list[slice | int] = [slice(None)] * 3
                index[axis] = side
                cross[tuple(index)] = False
    return np.asarray(cross, dtype=np.bool_)


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold that parts the values into two groups of largest between-group variance."""
    top = float(np.percentile(values, 99.5))
    counts, edges = np.histogram(np.minimum(values, top), bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
    between = np.where((below > 0) & (above > 0), below * above * gap**2, 0.0)
    return float(edges[int(np.argmax(between)) + 1])
