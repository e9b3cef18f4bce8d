"""Head motion of each volume against one reference.

Knows nothing of runs, sessions or the clock: what it remembers is in ``state()``, and the same state and volume give
the same bits. ``newton`` has one step; this file has which steps are taken and how their result is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.errors import BadVolume
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.aligned import Aligned
from mindsight.preprocessing.motion.coarse import CoarseSearch
from mindsight.preprocessing.motion.memory_order import Grid, in_memory_order
from mindsight.preprocessing.motion.newton import PairedVoxels, Points, instrument, pair_voxels, step
from mindsight.preprocessing.motion.spline import FloatArray, prefilter
from mindsight.preprocessing.motion.voxel_selection import head_with_outline, strongest_gradients
from mindsight.volume import Volume

if TYPE_CHECKING:
    from mindsight.preprocessing.motion.device import OnDevice

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MIN_SLICES = 6
MIN_VOXELS = 200
SMOOTHING_FWHM_MM = 5.0

# A step leaves about a twentieth of the error.
FEW = 0.3  # of the chosen voxels find the pose; all of them then refine it
NEAR_MM = 0.2  # the last step of the few is smaller, where all follow
SETTLED_MM = 0.02  # and the last step of all
FAST_FEW = 0.25  # as many find it where they are all that is asked
FAST_SETTLED_MM = 0.05  # and of the few, where they are all that is asked
MAX_STEP_MM = 60.0
MAX_STEPS = 20
MAX_ROUNDS = 5  # of a device's fixed number of steps
FIT_VOXELS = 8192
MIN_OVERLAPPING = 100  # of those: with fewer on the volume, the two do not overlap
MOVED_MM = 0.7  # since the last volume: each slice then shows other parts of the head
MOVED_UNUSUAL = 16.0  # ... so that a slice counts as faulty only with an error this many times the usual one

UNUSUAL = 4.0  # with a residual this many times the usual one, a volume or slice does not fit
SMALL_RESIDUAL = 0.1  # ... unless it is small anyway
MAX_RESIDUAL = 0.4  # in any case: the reference explains more than half of a volume, or the pose is wrong
MIN_RESIDUAL = 1e-6  # below: the reference itself, from which no usual residual can be learned
MEMORY = 0.9  # weight of the past in the usual residual
MAX_OUTLIER_SHARE = 1 / 3  # with more slices that do not fit, the pose is wrong and not the slices


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a volume fits the reference at a pose; keep_Z are the slices that fit."""

    gain: float
    offset: float
    residual: float
    errors_Z: Float64Array
    keep_Z: BoolArray


class Realigner:
    """Rigid motion of volumes against a reference, warm-started from volume to volume.

    reference : what to align to; its grid, affine and shape are the output's
    mask : (X, Y, Z) bool, voxels that move as one with the head; None: the head and its outline, found in the reference
    fast : find the pose only, and do not refine it on all voxels: half the time and twice the error (0.006 to
        0.008 mm instead of 0.0035 mm on simulations at 2 mm)
    device : where the steps and the sampling are done, as torch names it ("cuda"; see device.py); None: this processor,
        one thread, by compiled kernels. The check of the fit and the search from far away are
        always done on this processor

    Raises BadVolume (``motion.too_few_slices``) under six slices: six parameters need a volume, not a slab;
    ``mask.empty`` and ``motion.featureless`` if there is nothing to align to.
    """

    def __init__(
        self, reference: Volume, mask: BoolArray | None = None, *, fast: bool = False, device: str | None = None
    ) -> None:
        if min(reference.shape) < MIN_SLICES:
            raise BadVolume(
                f"expected at least {MIN_SLICES} voxels along each axis to estimate six motion parameters, got "
                f"{reference.shape}: use motion parameters from elsewhere, or none",
                code="motion.too_few_slices",
                slices=min(reference.shape),
            )
        self.reference = reference
        values, grid = in_memory_order(reference)
        use = head_with_outline(values, grid.voxel_mm) if mask is None else grid.arrange(mask)
        if use.shape != values.shape or int(use.sum()) < MIN_VOXELS:
            raise BadVolume(
                f"expected a mask of shape {reference.shape} with at least {MIN_VOXELS} voxels in it", code="mask.empty"
            )
        sigma = SMOOTHING_FWHM_MM / 2.3548 / grid.voxel_mm
        smooth = ndimage.gaussian_filter(values, sigma, mode="mirror")
        centre_mm = grid.affine[:3, :3] @ np.argwhere(use).mean(axis=0) + grid.affine[:3, 3]
        ijk_N3 = np.ascontiguousarray(np.argwhere(strongest_gradients(smooth, use, grid.voxel_mm)), np.int16)
        self._points, self._frame = instrument(prefilter(values), prefilter(smooth), grid.affine, centre_mm, ijk_N3)
        self._few = self._points.share(FAST_FEW if fast else FEW)
        self._fit_points = self._points.share(FIT_VOXELS / len(ijk_N3))
        self._fast = fast
        self.on_device: OnDevice | None = None
        if device is not None:
            from mindsight.preprocessing.motion.device import OnDevice  # imports torch, which is needed here only

            self.on_device = OnDevice(self._frame, self._few if fast else self._points, device)
        self._coarse = CoarseSearch(values, grid.affine, centre_mm)
        self._grid = grid
        self._pose = np.eye(4)  # volume mm -> reference mm, of the last volume that converged
        self._usual = 0.0  # residual of the volumes so far
        self._usual_Z = np.zeros(grid.n_slices)  # and each slice's error
        self._gain, self._offset = 1.0, 0.0  # of the last volume against the reference
        self._warm_up(values)

    @property
    def centre_mm(self) -> Float64Array:
        """(3,) the head's centre, in reference mm."""
        return self._frame.centre_mm

    def align(self, volume: Volume) -> Aligned:
        """Estimate the pose of the next volume. The work is bounded for any input; look at ``converged``.

        Raises BadVolume (``motion.no_overlap``) if the volume does not overlap the reference.
        """
        values, grid = in_memory_order(volume)
        if not grid.same_as(self._grid):
            self._change_grid(values, grid)
        if self.on_device is not None:
            self.on_device.load(values, grid)
        limit = MAX_RESIDUAL
        if self._usual > 0.0:
            limit = min(max(UNUSUAL * self._usual, SMALL_RESIDUAL), MAX_RESIDUAL)
        pose = self._pose
        fit = self._check_fit(values, pose)
        for start_pose in (self._pose, np.eye(4)):  # a jump; or the last pose was wrong
            if fit.residual <= limit:
                break
            found = self._coarse.find(values, grid.affine, start_pose)
            if (found_fit := self._check_fit(values, found)).residual < fit.residual:
                pose, fit = found, found_fit
        settled = False
        for _ in range(3):  # again if the better pose shows that faulty slices were used
            keep_Z = fit.keep_Z
            if fit.residual > MAX_RESIDUAL:
                settled = False
                break
            pose, settled = self._approach(values, pose, fit)
            fit = self._check_fit(values, pose)
            if np.array_equal(fit.keep_Z, keep_Z) or (self.on_device is None and not (keep_Z & ~fit.keep_Z).any()):
                break
        if settled and not self._fast and self.on_device is None:
            pose, settled = self._descend(self._points, values, pose, fit, SETTLED_MM)
        converged = settled and fit.residual <= limit
        if converged:
            self._accept(pose, fit)
        else:
            self._usual *= 1.2  # so that a run that differs from here on is accepted in the end
        return Aligned(
            self.reference,
            volume,
            rigid.inverse(self._pose),
            self.centre_mm,
            converged=converged,
            residual=fit.residual,
            outlier_slices=tuple(np.flatnonzero(~fit.keep_Z).tolist()) if converged else (),
            on_device=None if self.on_device is None or not settled else self.on_device.volume(),
        )

    def _warm_up(self, values: FloatArray) -> None:
        """Run every kernel once, so that compiling them is part of the set-up and does not delay the first volume."""
        self._coarse.find(values, self._grid.affine, self._pose)
        if self.on_device is not None:
            self.on_device.load(values, self._grid)
        self._approach(values, self._pose, self._check_fit(values, self._pose))
        still = Aligned(self.reference, self.reference, self._pose, self.centre_mm)
        still.sample(np.ones(self.reference.shape, np.bool_))
        still.sample(self.centre_mm[None])

    def _pair(
        self, points: Points, values: FloatArray, pose: Float64Array, keep_Z: BoolArray | None = None
    ) -> PairedVoxels:
        every_Z = np.ones(self._grid.n_slices, np.bool_) if keep_Z is None else keep_Z
        return pair_voxels(self._frame, points, self._grid, values, pose, every_Z)

    def _check_fit(self, values: FloatArray, pose: Float64Array) -> _Fit:
        """Compare volume and reference at a pose; find slices that do not fit while most others do."""
        residuals = self._pair(self._fit_points, values, pose).residuals(self._grid.n_slices)
        every_Z = np.ones(self._grid.n_slices, np.bool_)
        gain, offset, residual = residuals.fit(every_Z)
        errors_Z = residuals.errors(gain, offset)
        if residual <= 1.5 * self._usual or not self._usual_Z.any():
            return _Fit(gain, offset, residual, errors_Z, every_Z)
        # The last volume's gain: faulty slices would bias this one's, and other slices would then not fit either.
        limit = MOVED_UNUSUAL if self._has_moved(pose) else UNUSUAL
        unknown_Z = self._usual_Z == 0.0  # the slice had too little of the head
        keep_Z = unknown_Z | (residuals.errors(self._gain, self._offset) <= limit * self._usual_Z)
        if np.mean(~keep_Z) > MAX_OUTLIER_SHARE:
            return _Fit(gain, offset, residual, errors_Z, every_Z)
        gain, offset, residual = residuals.fit(keep_Z)
        return _Fit(gain, offset, residual, residuals.errors(gain, offset), keep_Z)

    def _accept(self, pose: Float64Array, fit: _Fit) -> None:
        """Adopt a volume's pose, and update the usual residuals."""
        self._gain, self._offset = fit.gain, fit.offset
        if fit.residual > MIN_RESIDUAL:
            weight = MEMORY if self._usual > 0.0 else 0.0
            self._usual = weight * self._usual + (1.0 - weight) * fit.residual
            # At another position other parts of each slice fit worse; a slice that stays worse sets the new error.
            weight_Z = np.where((self._usual_Z == 0.0) | self._has_moved(pose), 0.0, weight)
            updated_Z = weight_Z * self._usual_Z + (1.0 - weight_Z) * fit.errors_Z
            self._usual_Z = np.where(fit.keep_Z, updated_Z, 1.2 * self._usual_Z)
        self._pose = pose

    def _approach(self, values: FloatArray, pose: Float64Array, fit: _Fit) -> tuple[Float64Array, bool]:
        """Approach the pose with few voxels; on a device, with all voxels and to convergence."""
        if self.on_device is None:
            return self._descend(self._few, values, pose, fit, FAST_SETTLED_MM if self._fast else NEAR_MM)
        for _ in range(MAX_ROUNDS):
            pose, size_mm = self.on_device.descend(pose, fit.gain, fit.keep_Z)
            if not size_mm < MAX_STEP_MM:
                break
            if size_mm < SETTLED_MM:
                return pose, True
        return self._pose, False

    def _has_moved(self, pose: Float64Array) -> bool:
        """Since the last volume, by more than MOVED_MM."""
        return rigid.displacement_mm(pose @ rigid.inverse(self._pose), self.centre_mm, rigid.LEVER_MM) > MOVED_MM

    def _descend(
        self, points: Points, values: FloatArray, pose: Float64Array, fit: _Fit, settled_mm: float
    ) -> tuple[Float64Array, bool]:
        """The pose that explains the volume's slices to keep, from one nearby; and whether the last step was small."""
        for _ in range(MAX_STEPS):
            twist = step(self._frame, points, self._pair(points, values, pose, fit.keep_Z), fit.gain)
            size = float(np.linalg.norm(twist[:3]) + rigid.LEVER_MM * np.linalg.norm(twist[3:]))
            if not size < MAX_STEP_MM:
                break
            pose = rigid.exponential(twist, self.centre_mm) @ pose
            if size < settled_mm:
                return pose, True
        return pose, False

    def _change_grid(self, values: FloatArray, grid: Grid) -> None:
        every_Z = np.ones(grid.n_slices, np.bool_)
        paired = pair_voxels(self._frame, self._fit_points, grid, values, self._pose, every_Z)
        if paired.values_K.shape[0] < MIN_OVERLAPPING:
            raise BadVolume(
                "expected a volume that overlaps the reference, got one that does not: check that both are of the same "
                "session, or start with a reference of this one",
                code="motion.no_overlap",
            )
        self._grid = grid
        self._usual, self._usual_Z = 0.0, np.zeros(grid.n_slices)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
        return {
            "pose": self._pose.copy(),
            "usual": np.array(self._usual),
            "usual_Z": self._usual_Z.copy(),
            "gain_offset": np.array([self._gain, self._offset]),
            "grid_affine": self._grid.affine.copy(),
            "grid_shape": np.array(self._grid.shape),
            "grid_slice_axis": np.array(self._grid.slice_axis),
        }

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from a ``state()`` of a realigner with the same reference and mask, with the same bits."""
        self._pose = np.array(state["pose"], dtype=np.float64)
        self._usual = float(state["usual"])
        self._usual_Z = np.array(state["usual_Z"], dtype=np.float64)
        self._gain, self._offset = state["gain_offset"].tolist()
        x, y, z = state["grid_shape"].tolist()
        affine = np.array(state["grid_affine"], dtype=np.float64)
        self._grid = Grid(affine, (x, y, z), int(state["grid_slice_axis"]))
