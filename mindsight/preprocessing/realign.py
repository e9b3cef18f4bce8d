"""Head motion of each volume against one reference, and the volume's values where the head now is.

Knows nothing of runs, sessions or the clock: what it remembers is in ``state()``, and the same state and volume give the
same bits. How a pose is estimated is in linearise.py.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.errors import BadVolume
from mindsight.preprocessing import rigid
from mindsight.preprocessing.linearise import Frame, Linearisation
from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.memory import MemoryVolume
from mindsight.preprocessing.spline import prefilter, sample_grid, sample_points
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]

MIN_SLICES = 6
HEAD_RADIUS_MM = 60.0
SMOOTHING_FWHM_MM = 5.0
REBASE_MM = 0.7  # the tabulated F holds this far from its pose
FAR_MM = 2.0  # beyond this the step itself is not to be trusted: linearise again before the next one
CONVERGED_MM = 2e-3
MAX_STEPS = 24


class Aligned:
    """Where one volume's head is, and its values there.

    rigid : (4, 4) reference mm -> volume mm
    translation_mm, rotation_rad : (3,) each: x_volume = R (x_reference - c) + c + translation with R = Rx Ry Rz (SPM's
        order and signs) and c = ``centre_mm``, the centre of the voxels that the estimate uses
    converged : False where no pose explained the volume (a spike, a garbled volume); the pose is then the last good one
    residual : share of the volume's variance that the reference at this pose leaves unexplained, 0 to 1
    """

    def __init__(
        self,
        reference: Volume,
        raw: Volume,
        motion: Float64Array,
        centre_mm: Float64Array,
        *,
        converged: bool,
        residual: float,
    ) -> None:
        self._reference = reference
        self._raw = raw
        self.rigid = motion
        self.centre_mm = centre_mm
        self.converged = converged
        self.residual = residual
        self.rotation_rad = rigid.angles(motion)
        self.translation_mm = motion[:3, :3] @ centre_mm + motion[:3, 3] - centre_mm

    @property
    def motion_6(self) -> Float64Array:
        """(6,) translations in mm, then rotations in radians."""
        return np.concatenate([self.translation_mm, self.rotation_rad])

    @cached_property
    def _coefficients(self) -> tuple[NDArray[np.float32], Float64Array]:
        memory = MemoryVolume.of(self._raw)
        return prefilter(memory.finite()), np.linalg.inv(memory.affine)

    @cached_property
    def volume(self) -> Volume:
        """The volume on the reference's grid (float32), cubic B-spline; outside of the field of view the edge repeats."""
        coef, to_voxel = self._coefficients
        out_XYZ = np.empty(self._reference.shape, np.float32)
        matrix = to_voxel @ self.rigid @ self._reference.affine
        sample_grid(coef, np.ascontiguousarray(matrix[:3]), out_XYZ)
        raw = self._raw
        return Volume(
            out_XYZ, self._reference.affine, raw.tr_s, raw.run, raw.index, raw.acquired_s, raw.arrived_s, raw.trigger_s
        )

    def sample(self, where: NDArray[Any], to_reference: Float64Array | None = None) -> NDArray[np.float32]:
        """(V,) values by one cubic B-spline interpolation from the raw volume.

        where : (X, Y, Z) bool, voxels of the reference's grid in C order; or (V, 3) points in mm
        to_reference : (4, 4) points' mm -> reference mm (a decoder's space); None: the points are in reference mm
        """
        where = np.asarray(where)
        if where.dtype == np.bool_:
            if where.shape != self._reference.shape:
                raise BadVolume(
                    f"expected a mask of the reference's shape {self._reference.shape}, got {where.shape}",
                    code="volume.shape_mismatch",
                )
            points, to_mm = np.argwhere(where).astype(np.float64), self._reference.affine
        else:
            points, to_mm = np.ascontiguousarray(where, dtype=np.float64), np.eye(4)
        coef, to_voxel = self._coefficients
        composed = to_voxel @ self.rigid @ (np.eye(4) if to_reference is None else to_reference) @ to_mm
        return sample_points(coef, np.ascontiguousarray(composed[:3]), points)


class Realigner:
    """Rigid motion of volumes against a reference, warm-started from volume to volume.

    reference : what to align to; its grid, affine and shape are the output's
    mask : (X, Y, Z) bool, voxels that move as one with the head; None: found in the reference

    Raises BadVolume (``motion.too_few_slices``) under six slices: six parameters need a volume, not a slab; and
    ``mask.empty`` where there is nothing to align to.
    """

    def __init__(self, reference: Volume, mask: NDArray[np.bool_] | None = None) -> None:
        if min(reference.shape) < MIN_SLICES:
            raise BadVolume(
                f"expected at least {MIN_SLICES} voxels along each axis to estimate six motion parameters, got "
                f"{reference.shape}: use motion parameters from elsewhere, or none",
                code="motion.too_few_slices",
                slices=min(reference.shape),
            )
        self.reference = reference
        memory = MemoryVolume.of(reference)
        values = memory.finite()
        use = memory.arrange(mask) if mask is not None else ndimage.binary_dilation(brain_mask(values), iterations=2)
        if use.shape != values.shape or not use.any():
            raise BadVolume(f"expected a mask of shape {reference.shape} with voxels in it", code="mask.empty")
        self._ijk_N3 = np.argwhere(use).astype(np.float64)
        sigma = SMOOTHING_FWHM_MM / 2.3548 / np.linalg.norm(memory.affine[:3, :3], axis=0)
        smooth = ndimage.gaussian_filter(values.astype(np.float32), sigma, mode="mirror")
        centre_mm = memory.affine[:3, :3] @ self._ijk_N3.mean(axis=0) + memory.affine[:3, 3]
        self._frame = Frame(prefilter(values), prefilter(smooth), memory.affine, centre_mm)
        self._pose = np.eye(4)  # volume mm -> reference mm
        self._usual = 0.0  # residual of the volumes so far
        self._base_pose = np.eye(4)
        self._grid_affine = memory.affine
        self._grid_shape = values.shape
        self._base: Linearisation | None = None
        self.prepare()

    @property
    def centre_mm(self) -> Float64Array:
        """(3,) what rotations turn about, in reference mm."""
        return self._frame.centre_mm

    def prepare(self) -> None:
        """Do now what the next ``align`` would do first. Never needed, changes no result; for idle time."""
        if self._base is None:
            self._base = self._linearise()

    def align(self, volume: Volume) -> Aligned:
        """Estimate the pose of the next volume. Bounded work whatever comes in; ``converged`` says how it went."""
        memory = MemoryVolume.of(volume)
        if memory.data.shape != self._grid_shape or not np.array_equal(memory.affine, self._grid_affine):
            self._grid_shape, self._grid_affine = memory.data.shape, memory.affine
            self._rebase(self._pose)
        flat = memory.finite().reshape(-1)
        before = self._pose
        pose, settled = self._descend(flat, before)
        residual = self._linear().unexplained(flat, pose)
        limit = max(4.0 * self._usual, 0.1)
        converged = settled and residual < limit
        if converged:
            self._usual = residual if self._usual == 0.0 else 0.9 * self._usual + 0.1 * residual
            self._pose = pose
        if (
            rigid.displacement_mm(self._pose @ rigid.inverse(self._base_pose), self.centre_mm, HEAD_RADIUS_MM)
            > REBASE_MM
        ):
            self._rebase(self._pose)
        return Aligned(
            self.reference, volume, rigid.inverse(self._pose), self.centre_mm, converged=converged, residual=residual
        )

    def _descend(self, flat: NDArray[Any], start: Float64Array) -> tuple[Float64Array, bool]:
        base = self._linear()
        target = base.project(flat)
        pose = start
        for _ in range(MAX_STEPS):
            step = base.predicted(pose) - target
            size = float(np.linalg.norm(step[:3]) + HEAD_RADIUS_MM * np.linalg.norm(step[3:]))
            if not np.isfinite(size) or size > 60.0:
                return start, False
            pose = rigid.exponential(-step, self.centre_mm) @ pose
            if size < CONVERGED_MM:
                return pose, True
            if rigid.displacement_mm(pose @ rigid.inverse(base.pose), self.centre_mm, HEAD_RADIUS_MM) > FAR_MM:
                self._rebase(pose)
                base = self._linear()
                target = base.project(flat)
        return pose, False

    def _rebase(self, pose: Float64Array) -> None:
        self._base_pose = pose
        self._base = None

    def _linear(self) -> Linearisation:
        self.prepare()
        assert self._base is not None
        return self._base

    def _linearise(self) -> Linearisation:
        """The linearisation at the base pose: a function of reference, mask, base pose and grid alone."""
        to_volume = np.linalg.inv(self._grid_affine) @ rigid.inverse(self._base_pose) @ self._frame.affine
        ijk = np.rint(self._ijk_N3 @ to_volume[:3, :3].T + to_volume[:3, 3]).astype(np.int64)
        inside = ((ijk >= 0) & (ijk < self._grid_shape)).all(axis=1)
        used = np.zeros(self._grid_shape, np.bool_)
        used[tuple(ijk[inside].T)] = True
        index_N = np.flatnonzero(used)
        if index_N.shape[0] < 100:
            raise BadVolume(
                "expected a volume that overlaps the reference, got one elsewhere", code="motion.no_overlap"
            )
        ijk_N3 = np.stack(np.unravel_index(index_N, self._grid_shape), axis=1).astype(np.int16)
        return Linearisation(self._frame, self._base_pose, self._grid_affine, ijk_N3, index_N.astype(np.int32))

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
        return {
            "pose": self._pose.copy(),
            "base_pose": self._base_pose.copy(),
            "grid_affine": self._grid_affine.copy(),
            "grid_shape": np.array(self._grid_shape),
            "usual": np.array(self._usual),
        }

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from a ``state()`` of a realigner with the same reference and mask, with the same bits."""
        self._pose = np.array(state["pose"], dtype=np.float64)
        self._usual = float(state["usual"])
        self._grid_affine = np.array(state["grid_affine"], dtype=np.float64)
        self._grid_shape = tuple(int(n) for n in state["grid_shape"])
        self._rebase(np.array(state["base_pose"], dtype=np.float64))

    @classmethod
    def restore(
        cls, reference: Volume, state: dict[str, NDArray[Any]], mask: NDArray[np.bool_] | None = None
    ) -> Realigner:
        """A realigner as it was when ``state()`` was taken."""
        realigner = cls(reference, mask)
        realigner.load_state(state)
        return realigner
