"""One volume and where its head is: the pose as numbers, the values where the head now is.

Knows nothing of how the pose was found.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.memory_order import as_values, in_memory_order, raw_in_memory_order
from mindsight.preprocessing.motion.spline import (
    RADIUS,
    mask_bounds,
    prefilter,
    sample_grid,
    sample_mask,
    sample_points,
)
from mindsight.volume import Volume

if TYPE_CHECKING:
    from mindsight.preprocessing.motion.device import DeviceVolume

Float64Array = NDArray[np.float64]


class Aligned:
    """Where one volume's head is, and its values there.

    rigid : (4, 4) reference mm -> volume mm
    translation_mm, rotation_rad : (3,) each, x then y then z, about the scanner's origin:
        x_volume = Rx Ry Rz x_reference + translation, the order and signs of SPM's spm_matrix
    motion_6 : (6,) the same motion about the head's centre (``centre_mm``), translations in mm, then rotations in
        radians: for framewise displacement and confounds, which must not depend on where the scanner's origin lies
    converged : False if no pose explained the volume (a spike, a garbled volume); the pose is then the last good one
    residual : share of the volume's variance that the reference at this pose leaves unexplained, 0 to 1
    outlier_slices : indices of slices that do not fit while the others do; the pose was estimated without them
    """

    def __init__(
        self,
        reference: Volume,
        raw: Volume,
        motion: Float64Array,
        centre_mm: Float64Array,
        *,
        converged: bool = True,
        residual: float = 0.0,
        outlier_slices: tuple[int, ...] = (),
        on_device: DeviceVolume | None = None,
    ) -> None:
        self._reference = reference
        self._raw = raw
        self._on_device = on_device
        self.rigid = motion
        self.centre_mm = centre_mm
        self.converged = converged
        self.residual = residual
        self.outlier_slices = outlier_slices
        self.rotation_rad = rigid.angles(motion)
        self.translation_mm = motion[:3, 3].copy()
        about_centre = motion[:3, :3] @ centre_mm + motion[:3, 3] - centre_mm
        self.motion_6 = np.concatenate([about_centre, self.rotation_rad])

    @cached_property
    def volume(self) -> Volume:
        """The volume on the reference's grid (float32), cubic B-spline; outside the field of view the edge repeats."""
        values, grid = in_memory_order(self._raw)
        out_XYZ = np.empty(self._reference.shape, np.float32)
        matrix = np.linalg.inv(grid.affine) @ self.rigid @ self._reference.affine
        sample_grid(prefilter(values), np.ascontiguousarray(matrix[:3]), out_XYZ)
        raw = self._raw
        return Volume(
            out_XYZ,
            self._reference.affine,
            raw.tr_s,
            raw.run,
            raw.index,
            raw.acquired_s,
            raw.arrived_s,
            raw.trigger_s,
        )

    def sample(self, where: NDArray[Any], to_reference: Float64Array | None = None) -> NDArray[np.float32]:
        """(V,) values by one cubic B-spline interpolation from the raw volume.

        where : (X, Y, Z) bool, voxels of the reference's grid in C order; or (V, 3) points in mm
        to_reference : (4, 4) points' mm -> reference mm (a decoder's space); None: the points are in reference mm

        Raises BadVolume (``volume.shape_mismatch``) for a mask of another shape.
        """
        where = np.asarray(where)
        to_voxel = self.rigid if to_reference is None else self.rigid @ to_reference
        if where.dtype != np.bool_:
            points_V3 = np.ascontiguousarray(where, dtype=np.float64).reshape(-1, 3)
            if points_V3.shape[0] == 0:
                return np.empty(0, np.float32)
            if self._on_device is not None:
                return self._on_device.sample(points_V3, self._to_raw_voxel(to_voxel))
            coef, matrix = self._around(np.stack([points_V3.min(axis=0), points_V3.max(axis=0)]), to_voxel)
            return sample_points(coef, matrix, points_V3)
        if where.shape != self._reference.shape:
            raise BadVolume(
                f"expected a mask of the reference's shape {self._reference.shape}, got {where.shape}",
                code="volume.shape_mismatch",
            )
        if self._on_device is not None:
            return self._on_device.sample(where, self._to_raw_voxel(to_voxel @ self._reference.affine))
        mask_XYZ = np.ascontiguousarray(where)
        bounds = mask_bounds(mask_XYZ)
        if bounds[1, 0] < 0:
            return np.empty(0, np.float32)
        coef, matrix = self._around(bounds, to_voxel @ self._reference.affine)
        return sample_mask(coef, matrix, mask_XYZ)

    def _to_raw_voxel(self, to_mm: Float64Array) -> Float64Array:
        _, grid = raw_in_memory_order(self._raw)
        return np.asarray(np.linalg.inv(grid.affine) @ to_mm, dtype=np.float64)

    def _around(self, bounds_23: Float64Array, to_mm: Float64Array) -> tuple[NDArray[np.float32], Float64Array]:
        """Coefficients of the part of the volume that holds a box of coordinates, and the coordinates' way into it.

        to_mm : (4, 4) the coordinates -> mm of the volume. Filtering only what is needed halves the cost of a visual
        cortex; RADIUS voxels around it make the result the same to float32 precision.
        """
        data, grid = raw_in_memory_order(self._raw)
        matrix = np.ascontiguousarray((np.linalg.inv(grid.affine) @ to_mm)[:3], dtype=np.float64)
        corners = np.stack(np.meshgrid(*bounds_23.T, indexing="ij")).reshape(3, 8)
        voxels = matrix[:, :3] @ corners + matrix[:, 3:]
        last = np.array(grid.shape) - 1
        low = np.maximum(np.clip(np.floor(voxels.min(axis=1)), 0, last).astype(int) - RADIUS, 0)
        high = np.minimum(np.clip(np.ceil(voxels.max(axis=1)), 0, last).astype(int) + RADIUS, last)
        matrix[:, 3] -= low
        box = tuple(slice(first, final + 1) for first, final in zip(low.tolist(), high.tolist(), strict=True))
        return prefilter(as_values(data[box])), matrix
