"""Head motion of each volume against one reference, and the volume's values where the head now is.

Knows nothing of runs, sessions or the clock: what it remembers is in ``state()``, and the same state and volume give the
same bits. How a pose is estimated is in linearise.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.errors import BadVolume
from mindsight.preprocessing import rigid
from mindsight.preprocessing.coarse import CoarseSearch
from mindsight.preprocessing.linearise import Frame, Linearisation
from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.memory import MemoryVolume
from mindsight.preprocessing.spline import prefilter, sample_grid, sample_points
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]

MIN_SLICES = 6
HEAD_RADIUS_MM = 60.0
SMOOTHING_FWHM_MM = 5.0
SHELL_MM = 5.0  # scalp and outline around the head's mask carry much of the information
STRONG_SHARE = 0.5  # of the voxels, those with the strongest (smoothed) gradient: the others cost time, not accuracy
REBASE_MM = 0.7  # linearise anew (before the next volume) when the head is this far from the last linearisation
FAR_MM = 2.0  # linearise anew at once: the steps themselves are not to be trusted
CONVERGED_MM = 5e-4
MAX_STEPS = 20
MAX_STEP_MM = 60.0
MIN_VOXELS = 500
MAX_REBASES = 4
UNUSUAL = 4.0  # a residual so many times the usual one is no ordinary volume
SMALL_RESIDUAL = 0.1  # ... unless it is small anyway
FIRST_RESIDUAL = 0.5  # before anything is usual: half of the variance explained


@dataclass(frozen=True, slots=True)
class _Fit:
    """A linearisation and the one pose at which its F is known exactly: where the next step starts from."""

    base: Linearisation
    known_pose: Float64Array
    known_value: Float64Array


class Aligned:
    """Where one volume's head is, and its values there.

    rigid : (4, 4) reference mm -> volume mm
    translation_mm, rotation_rad : (3,) each, about the scanner's origin, x then y then z: x_volume = Rx Ry Rz x_reference
        + translation, the order and signs of SPM's spm_matrix
    motion_6 : (6,) the same motion about the head's centre (``centre_mm``), translations in mm, then rotations in
        radians: for framewise displacement and confounds, which must not depend on where the scanner's origin lies
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
        self.translation_mm = motion[:3, 3].copy()
        about_centre = motion[:3, :3] @ centre_mm + motion[:3, 3] - centre_mm
        self.motion_6 = np.concatenate([about_centre, self.rotation_rad])

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
    mask : (X, Y, Z) bool, voxels that move as one with the head; None: the head and its outline, found in the reference

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
        values, voxel_mm = memory.finite(), np.linalg.norm(memory.affine[:3, :3], axis=0)
        use = _shell(brain_mask(values), voxel_mm) if mask is None else memory.arrange(mask)
        if use.shape != values.shape or not use.any():
            raise BadVolume(f"expected a mask of shape {reference.shape} with voxels in it", code="mask.empty")
        sigma = SMOOTHING_FWHM_MM / 2.3548 / voxel_mm
        smooth = ndimage.gaussian_filter(values.astype(np.float32), sigma, mode="mirror")
        self._ijk_N3 = np.argwhere(_strongest(smooth, use, voxel_mm)).astype(np.float64)
        centre_mm = memory.affine[:3, :3] @ np.argwhere(use).mean(axis=0) + memory.affine[:3, 3]
        self._frame = Frame(prefilter(values), prefilter(smooth), memory.affine, centre_mm)
        self._coarse = CoarseSearch(values, memory.affine, centre_mm)
        self._pose = np.eye(4)  # volume mm -> reference mm, of the last volume that converged
        self._usual = 0.0  # residual of the volumes so far
        self._grid_affine, self._grid_shape = memory.affine, values.shape
        self._base_pose, self._known_pose = self._pose, self._pose
        self._fit: _Fit | None = None
        self.prepare()

    @property
    def centre_mm(self) -> Float64Array:
        """(3,) the head's centre, in reference mm."""
        return self._frame.centre_mm

    def prepare(self) -> None:
        """Do now what the next ``align`` would do first. Never needed, changes no result; for idle time."""
        self._ready()

    def align(self, volume: Volume) -> Aligned:
        """Estimate the pose of the next volume. Bounded work whatever comes in; ``converged`` says how it went.

        Raises BadVolume (``motion.no_overlap``) where the volume lies elsewhere than the reference.
        """
        memory = MemoryVolume.of(volume)
        values = memory.finite()
        if values.shape != self._grid_shape or not np.array_equal(memory.affine, self._grid_affine):
            self._grid_shape, self._grid_affine = values.shape, memory.affine
            self._forget(self._pose)
        flat = values.reshape(-1)
        limit = max(UNUSUAL * self._usual, SMALL_RESIDUAL) if self._usual > 0.0 else FIRST_RESIDUAL
        fit = self._ready()
        if fit.base.unexplained(flat, self._pose) > limit:
            fit = self._fit_at(self._coarse.find(values, memory.affine, self._pose))
        pose, fit, settled = self._descend(flat, fit)
        residual = fit.base.unexplained(flat, pose)
        converged = settled and residual <= limit
        if converged:
            self._usual = residual if self._usual == 0.0 else 0.9 * self._usual + 0.1 * residual
            self._pose, self._fit = pose, fit
            self._base_pose, self._known_pose = fit.base.pose, fit.known_pose
            if self._distance_mm(pose, fit.base.pose) > REBASE_MM:
                self._forget(pose)
        else:
            self._usual *= 1.2  # a run that is different from here on is accepted in the end
        return Aligned(
            self.reference, volume, rigid.inverse(self._pose), self.centre_mm, converged=converged, residual=residual
        )

    def _descend(self, flat: NDArray[Any], fit: _Fit) -> tuple[Float64Array, _Fit, bool]:
        """The pose that explains the volume, from where ``fit`` knows the reference; and whether it settled.

        A step's remaining error is its size times the rate at which steps shrink, so that normally one evaluation of the
        reference (at the predicted pose) is enough.
        """
        target = fit.base.project(flat)
        before = np.inf
        rebases = 0
        for _ in range(MAX_STEPS):
            step = fit.known_value - target
            size = float(np.linalg.norm(step[:3]) + HEAD_RADIUS_MM * np.linalg.norm(step[3:]))
            if not size < MAX_STEP_MM:
                break
            pose = rigid.exponential(-step, self.centre_mm) @ fit.known_pose
            if size * min(1.0, size / before) < CONVERGED_MM and np.isfinite(before):
                return pose, fit, True
            if self._distance_mm(pose, fit.base.pose) > FAR_MM or size > 0.5 * before:
                rebases += 1
                if rebases > MAX_REBASES:
                    break
                fit, before = self._fit_at(pose), np.inf
                target = fit.base.project(flat)
            else:
                fit, before = _Fit(fit.base, pose, fit.base.predicted(pose)), size
        return fit.known_pose, fit, False

    def _distance_mm(self, a: Float64Array, b: Float64Array) -> float:
        return rigid.displacement_mm(a @ rigid.inverse(b), self.centre_mm, HEAD_RADIUS_MM)

    def _forget(self, pose: Float64Array) -> None:
        """Linearise at ``pose`` before the next volume."""
        self._base_pose, self._known_pose, self._fit = pose, pose, None

    def _ready(self) -> _Fit:
        if self._fit is None:
            base = self._linearise(self._base_pose)
            self._fit = _Fit(base, self._known_pose, base.predicted(self._known_pose))
        return self._fit

    def _fit_at(self, pose: Float64Array) -> _Fit:
        base = self._linearise(pose)
        return _Fit(base, pose, base.predicted(pose))

    def _linearise(self, pose: Float64Array) -> Linearisation:
        """The linearisation at a pose: a function of reference, mask, pose and the volume's grid alone."""
        to_volume = np.linalg.inv(self._grid_affine) @ rigid.inverse(pose) @ self._frame.affine
        ijk = np.rint(self._ijk_N3 @ to_volume[:3, :3].T + to_volume[:3, 3]).astype(np.int64)
        inside = ((ijk >= 0) & (ijk < self._grid_shape)).all(axis=1)
        used = np.zeros(self._grid_shape, np.bool_)
        used[tuple(ijk[inside].T)] = True
        index_N = np.flatnonzero(used)
        if index_N.shape[0] < MIN_VOXELS:
            raise BadVolume(
                "expected a volume that overlaps the reference, got one elsewhere", code="motion.no_overlap"
            )
        ijk_N3 = np.stack(np.unravel_index(index_N, self._grid_shape), axis=1).astype(np.int16)
        return Linearisation(self._frame, pose, self._grid_affine, ijk_N3, index_N.astype(np.int32))

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
        return {
            "pose": self._pose.copy(),
            "base_pose": self._base_pose.copy(),
            "known_pose": self._known_pose.copy(),
            "grid_affine": self._grid_affine.copy(),
            "grid_shape": np.array(self._grid_shape),
            "usual": np.array(self._usual),
        }

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from a ``state()`` of a realigner with the same reference and mask, with the same bits."""
        self._pose = np.array(state["pose"], dtype=np.float64)
        self._usual = float(state["usual"])
        self._grid_affine = np.array(state["grid_affine"], dtype=np.float64)
        x, y, z = (int(n) for n in state["grid_shape"])
        self._grid_shape = (x, y, z)
        self._base_pose = np.array(state["base_pose"], dtype=np.float64)
        self._known_pose = np.array(state["known_pose"], dtype=np.float64)
        self._fit = None

    @classmethod
    def restore(
        cls, reference: Volume, state: dict[str, NDArray[Any]], mask: NDArray[np.bool_] | None = None
    ) -> Realigner:
        """A realigner as it was when ``state()`` was taken."""
        realigner = cls(reference, mask)
        realigner.load_state(state)
        return realigner


def _shell(mask: NDArray[np.bool_], voxel_mm: Float64Array) -> NDArray[np.bool_]:
    """The mask and what lies within SHELL_MM of it."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=voxel_mm) <= SHELL_MM)


def _strongest(smooth: NDArray[np.float32], use: NDArray[np.bool_], voxel_mm: Float64Array) -> NDArray[np.bool_]:
    """The voxels of ``use`` with the stronger gradients; not fewer than MIN_VOXELS."""
    slopes = np.gradient(smooth)
    strength = np.sqrt(sum((slope / mm) ** 2 for slope, mm in zip(slopes, voxel_mm.tolist(), strict=True)))
    wanted = min(int(use.sum()), max(MIN_VOXELS, int(STRONG_SHARE * use.sum())))
    threshold = np.partition(strength[use], -wanted)[-wanted]
    return np.asarray(use & (strength >= threshold))
