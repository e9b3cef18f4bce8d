"""One volume and where its head is: the pose as numbers, the values where the head now is.

Knows nothing of how the pose was found.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.preprocessing import rigid
from mindsight.preprocessing.memory import in_memory_order
from mindsight.preprocessing.spline import prefilter, sample_grid, sample_mask, sample_points
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]


class Aligned:
    """Where one volume's head is, and its values there.

    rigid : (4, 4) reference mm -> volume mm
    translation_mm, rotation_rad : (3,) each, x then y then z, about the scanner's origin:
        x_volume = Rx Ry Rz x_reference + translation, the order and signs of SPM's spm_matrix
    motion_6 : (6,) the same motion about the head's centre (``centre_mm``), translations in mm, then rotations in
        radians: for framewise displacement and confounds, which must not depend on where the scanner's origin lies
    converged : False where no pose explained the volume (a spike, a garbled volume); the pose is then the last good one
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
    ) -> None:
        self._reference = reference
        self._raw = raw
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
    def _coefficients(self) -> tuple[NDArray[np.float32], Float64Array]:
        values, grid = in_memory_order(self._raw)
        return prefilter(values), np.asarray(np.linalg.inv(grid.affine), dtype=np.float64)

    @cached_property
    def volume(self) -> Volume:
        """The volume on the reference's grid (float32), cubic B-spline; outside the field of view the edge repeats."""
        coef, to_voxel = self._coefficients
        out_XYZ = np.empty(self._reference.shape, np.float32)
        matrix = to_voxel @ self.rigid @ self._reference.affine
        sample_grid(coef, np.ascontiguousarray(matrix[:3]), out_XYZ)
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
        if where.dtype == np.bool_ and where.shape != self._reference.shape:
            raise BadVolume(
                f"expected a mask of the reference's shape {self._reference.shape}, got {where.shape}",
                code="volume.shape_mismatch",
            )
        to_mm = self._reference.affine if where.dtype == np.bool_ else np.eye(4)
        if to_reference is not None:
            to_mm = to_reference @ to_mm
        coef, to_voxel = self._coefficients
        matrix = np.ascontiguousarray((to_voxel @ self.rigid @ to_mm)[:3])
        if where.dtype == np.bool_:
            return sample_mask(coef, matrix, np.ascontiguousarray(where))
        return sample_points(coef, matrix, np.ascontiguousarray(where, dtype=np.float64))
