"""A head at several resolutions, without the receive field, and the points at which a registration compares it.

Knows nothing of other heads or of poses. Set-up code.

Reference: M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018 (the points: evenly spread, never
in step with a voxel grid, and the same every time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.errors import BadVolume
from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.motion.coarse import smoothed_blocks
from mindsight.preprocessing.motion.memory_order import in_memory_order
from mindsight.preprocessing.motion.spline import FloatArray, prefilter, sample_grid
from mindsight.preprocessing.registration.mutual_information import Image
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]

MIN_SLICES = 6
MASK_MM = 4.0  # resolution at which head and air are separated
FIELD_MM = 25.0  # standard deviation at which a coil's sensitivity and anatomy are separated
FIELD_FLOOR = 0.02  # of the head's weight: far from it the field goes over into the head's mean
SHELL_MM = 8.0  # of air around the head, so that its outline is compared, too
EXTREMES_PERCENT = (0.5, 99.5)  # values beyond count as these: a few bright vessels must not use up the range
_PLASTIC = 1.2207440846057596  # the root of x^4 = x + 1


class Pyramid:
    """One volume's images at the given resolutions.

    images : one per resolution; centre_mm : (3,) of the head; head_mm3 : its volume

    Raises BadVolume (``motion.too_few_slices``) under six samples along an axis, ``mask.empty`` without a head in it.
    """

    def __init__(self, volume: Volume, levels_mm: Sequence[float]) -> None:
        if min(volume.shape) < MIN_SLICES:
            raise BadVolume(
                f"expected at least {MIN_SLICES} voxels along each axis to register, got {volume.shape}: use a volume "
                "that covers more of the head",
                code="motion.too_few_slices",
                slices=min(volume.shape),
            )
        values, grid = in_memory_order(volume)
        blocks, self._affine = smoothed_blocks(values, grid.affine, MASK_MM)
        self._head = brain_mask(blocks)
        voxel_mm = np.linalg.norm(self._affine[:3, :3], axis=0)
        self._near = np.asarray(ndimage.distance_transform_edt(~self._head, sampling=voxel_mm)) <= SHELL_MM
        self.centre_mm: Float64Array = self.head_points().mean(axis=0)
        self.head_mm3 = float(self._head.sum() * np.prod(voxel_mm))
        field = prefilter(self._field(blocks, voxel_mm))
        self.images = []
        for mm in levels_mm:
            blocks, affine = smoothed_blocks(values, grid.affine, mm)
            there = np.empty(blocks.shape, np.float32)
            sample_grid(field, np.ascontiguousarray((np.linalg.inv(self._affine) @ affine)[:3]), there)
            blocks /= there
            low, high = np.percentile(blocks, EXTREMES_PERCENT).tolist()
            self.images.append(Image(prefilter(blocks), np.asarray(np.linalg.inv(affine)), low, high))

    def _field(self, blocks: FloatArray, voxel_mm: Float64Array) -> FloatArray:
        """Local brightness of the head: contrast between tissues averages out, the coils' field remains."""
        weight = self._head.astype(np.float32)
        sigma = FIELD_MM / voxel_mm
        total = ndimage.gaussian_filter(blocks * weight, sigma, mode="constant")
        share = ndimage.gaussian_filter(weight, sigma, mode="constant")
        usual = float(blocks[self._head].mean())
        return np.asarray((total + FIELD_FLOOR * usual) / (share + FIELD_FLOOR), np.float32)

    def head_points(self) -> Float64Array:
        """(N, 3) mm of the head's voxels at MASK_MM."""
        return np.asarray(np.argwhere(self._head) @ self._affine[:3, :3].T + self._affine[:3, 3])

    def points(self, n: int) -> Float64Array:
        """(about n, 3) mm, evenly over the head and SHELL_MM around it."""
        n_drawn = int(np.ceil(n * self._near.size / self._near.sum()))
        quasi_N3 = (0.5 + np.arange(1, n_drawn + 1)[:, None] * _PLASTIC ** -np.arange(1.0, 4.0)) % 1.0
        ijk_N3 = quasi_N3 * self._near.shape - 0.5
        nearest = np.clip(np.rint(ijk_N3).astype(int), 0, np.array(self._near.shape) - 1)
        ijk_N3 = ijk_N3[self._near[tuple(nearest.T)]]
        return np.ascontiguousarray(ijk_N3 @ self._affine[:3, :3].T + self._affine[:3, 3])

    def mirrored(self) -> list[Image]:
        """The images of this head with left and right exchanged, about its own centre."""
        mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
        mirror[0, 3] = 2.0 * self.centre_mm[0]
        return [replace(image, to_voxel=image.to_voxel @ mirror) for image in self.images]
