"""Head motion of each volume against one reference.

Knows nothing of runs, sessions or the clock: what it remembers is in ``state()``, and the same state and volume give
the same bits. How one step works is in linearise.py; here is when which step is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.errors import BadVolume
from mindsight.preprocessing import rigid
from mindsight.preprocessing.aligned import Aligned
from mindsight.preprocessing.coarse import CoarseSearch
from mindsight.preprocessing.linearise import Frame, Linearisation
from mindsight.preprocessing.memory import Grid, in_memory_order
from mindsight.preprocessing.spline import FloatArray, prefilter
from mindsight.preprocessing.support import head_with_outline, mark_nearest, strongest
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MIN_SLICES = 6
MIN_VOXELS = 200
SMOOTHING_FWHM_MM = 5.0
HEAD_RADIUS_MM = 60.0

CONVERGED_MM = 5e-4
REBASE_MM = 0.7  # linearise anew (before the next volume) when the head is this far from the last linearisation
FAR_MM = 2.0  # linearise anew at once: the steps themselves are not to be trusted
MAX_STEP_MM = 60.0
MAX_STEPS = 20
MAX_REBASES = 4

UNUSUAL = 4.0  # a residual so many times the usual one is no ordinary volume
SMALL_RESIDUAL = 0.1  # ... unless it is small anyway
MAX_RESIDUAL = 0.4  # whatever was usual: the reference explains more than half of a volume, or the pose is wrong
MIN_RESIDUAL = 1e-6  # below: the reference itself, which says nothing about what is usual
MEMORY = 0.9  # weight of the past in what is usual
MAX_OUTLIER_SHARE = 1 / 3  # where more slices do not fit, it is not the slices


@dataclass(frozen=True, slots=True)
class _Fit:
    """A linearisation and the one pose at which its F is known exactly: where the next step starts from."""

    base: Linearisation
    known_pose: Float64Array
    known_value: Float64Array


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What a survey says of a volume at a pose; keep_Z are the slices that fit."""

    gain: float
    offset: float
    residual: float
    errors_Z: Float64Array
    keep_Z: BoolArray


class Realigner:
    """Rigid motion of volumes against a reference, warm-started from volume to volume.

    reference : what to align to; its grid, affine and shape are the output's
    mask : (X, Y, Z) bool, voxels that move as one with the head; None: the head and its outline, found in the reference

    Raises BadVolume (``motion.too_few_slices``) under six slices: six parameters need a volume, not a slab;
    ``mask.empty`` and ``motion.featureless`` where there is nothing to align to.
    """

    def __init__(self, reference: Volume, mask: BoolArray | None = None) -> None:
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
        self._ijk_N3 = np.argwhere(strongest(smooth, use, grid.voxel_mm)).astype(np.int16)
        self._frame = Frame(prefilter(values), prefilter(smooth), grid.affine, centre_mm)
        self._coarse = CoarseSearch(values, grid.affine, centre_mm)
        self._grid = grid
        self._pose = np.eye(4)  # volume mm -> reference mm, of the last volume that converged
        self._usual = 0.0  # residual of the volumes so far
        self._usual_Z = np.zeros(grid.n_slices)  # and each slice's error
        self._gain, self._offset = 1.0, 0.0  # of the last volume against the reference
        self._base_pose, self._known_pose = self._pose, self._pose
        self._fit: _Fit | None = None
        self._rehearse(values)

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
        values, grid = in_memory_order(volume)
        if not grid.same_as(self._grid):
            self._change_grid(grid)
        flat = values.reshape(-1)
        limit = MAX_RESIDUAL
        if self._usual > 0.0:
            limit = min(max(UNUSUAL * self._usual, SMALL_RESIDUAL), MAX_RESIDUAL)
        pose, fit = self._pose, self._ready()
        judged = self._judge(fit, flat, pose)
        for start_pose in (self._pose, np.eye(4)):  # a jump; or the last pose was wrong
            if judged.residual <= limit:
                break
            found = self._coarse.find(values, grid.affine, start_pose)
            near = self._fit_at(found)
            if near is not None and (verdict := self._judge(near, flat, found)).residual < judged.residual:
                pose, fit, judged = found, near, verdict
        settled = False
        for _ in range(2):  # again where the better pose shows other slices at fault
            keep_Z = judged.keep_Z
            start = fit if keep_Z.all() else self._fit_at(pose, keep_Z)
            if start is None or judged.residual > MAX_RESIDUAL:
                settled = False
                break
            pose, end, settled = self._descend(flat, start, judged.gain)
            fit = end if keep_Z.all() else fit
            judged = self._judge(fit, flat, pose)
            if np.array_equal(judged.keep_Z, keep_Z):
                break
        converged = settled and judged.residual <= limit
        if converged:
            self._accept(pose, fit, judged)
        else:
            self._usual *= 1.2  # a run that is different from here on is accepted in the end
        return Aligned(
            self.reference,
            volume,
            rigid.inverse(self._pose),
            self.centre_mm,
            converged=converged,
            residual=judged.residual,
            outlier_slices=tuple(np.flatnonzero(~judged.keep_Z).tolist()) if converged else (),
        )

    def _rehearse(self, values: FloatArray) -> None:
        """Go through every kernel once: compiling is set-up, not the first volume's delay."""
        flat = values.reshape(-1)
        fit = self._ready()
        self._coarse.find(values, self._grid.affine, self._pose)
        self._descend(flat, fit, self._judge(fit, flat, self._pose).gain)
        still = Aligned(self.reference, self.reference, self._pose, self.centre_mm)
        still.sample(np.ones(self.reference.shape, np.bool_))
        still.sample(self.centre_mm[None])

    def _judge(self, fit: _Fit, flat: FloatArray, pose: Float64Array) -> _Judgement:
        """Compare volume and reference at a pose; single out slices that are at fault while most others fit."""
        survey = fit.base.survey(flat, pose)
        every_Z = np.ones(self._usual_Z.shape[0], np.bool_)
        gain, offset, residual = survey.explain(every_Z)
        errors_Z = survey.errors(gain, offset)
        if residual <= 1.5 * self._usual or not self._usual_Z.any():
            return _Judgement(gain, offset, residual, errors_Z, every_Z)
        # The last volume's gain, because slices at fault would spoil this one's and so put others at fault.
        keep_Z = survey.errors(self._gain, self._offset) <= UNUSUAL * self._usual_Z
        if np.mean(~keep_Z) > MAX_OUTLIER_SHARE:
            return _Judgement(gain, offset, residual, errors_Z, every_Z)
        gain, offset, residual = survey.explain(keep_Z)
        return _Judgement(gain, offset, residual, survey.errors(gain, offset), keep_Z)

    def _accept(self, pose: Float64Array, fit: _Fit, judged: _Judgement) -> None:
        """Take over a volume's pose, and what it says of what is usual."""
        self._gain, self._offset = judged.gain, judged.offset
        if judged.residual > MIN_RESIDUAL:
            weight = MEMORY if self._usual > 0.0 else 0.0
            self._usual = weight * self._usual + (1.0 - weight) * judged.residual
            # At another place another part of each slice fits worse, and a slice that stays worse is the usual one now.
            weight_Z = 0.0 if self._distance_mm(pose, self._pose) > REBASE_MM else weight
            updated_Z = weight_Z * self._usual_Z + (1.0 - weight_Z) * judged.errors_Z
            self._usual_Z = np.where(judged.keep_Z, updated_Z, 1.2 * self._usual_Z)
        self._pose, self._fit = pose, fit
        self._base_pose, self._known_pose = fit.base.pose, fit.known_pose
        if self._distance_mm(pose, fit.base.pose) > REBASE_MM:
            self._forget(pose)

    def _descend(self, flat: FloatArray, fit: _Fit, gain: float) -> tuple[Float64Array, _Fit, bool]:
        """The pose that explains the volume, from where ``fit`` knows the reference; and whether it settled.

        A step's remaining error is its size times the rate at which steps shrink, so that normally one evaluation of
        the reference (at the predicted pose) is enough.
        """
        target = fit.base.project(flat) / gain
        before = np.inf
        rebases = 0
        for _ in range(MAX_STEPS):
            step = fit.known_value - target
            size = float(np.linalg.norm(step[:3]) + HEAD_RADIUS_MM * np.linalg.norm(step[3:]))
            if not size < MAX_STEP_MM:
                break
            pose = rigid.exponential(-step, self.centre_mm) @ fit.known_pose
            if np.isfinite(before) and size * min(1.0, size / before) < CONVERGED_MM:
                return pose, fit, True
            if self._distance_mm(pose, fit.base.pose) > FAR_MM or size > 0.5 * before:
                rebases += 1
                there = self._fit_at(pose)
                if there is None or rebases > MAX_REBASES:
                    break
                fit, before = there, np.inf
                target = fit.base.project(flat) / gain
            else:
                fit, before = _Fit(fit.base, pose, fit.base.predicted(pose)), size
        return fit.known_pose, fit, False

    def _distance_mm(self, a: Float64Array, b: Float64Array) -> float:
        return rigid.displacement_mm(a @ rigid.inverse(b), self.centre_mm, HEAD_RADIUS_MM)

    def _change_grid(self, grid: Grid) -> None:
        self._grid = grid
        self._usual, self._usual_Z = 0.0, np.zeros(grid.n_slices)
        self._forget(self._pose)

    def _forget(self, pose: Float64Array) -> None:
        """Linearise at ``pose`` before the next volume."""
        self._base_pose, self._known_pose, self._fit = pose, pose, None

    def _ready(self) -> _Fit:
        if self._fit is None:
            base = self._linearise(self._base_pose)
            self._fit = _Fit(base, self._known_pose, base.predicted(self._known_pose))
        return self._fit

    def _fit_at(self, pose: Float64Array, keep_Z: BoolArray | None = None) -> _Fit | None:
        """None where the volume's slices to keep do not determine a pose there: a search went astray."""
        try:
            base = self._linearise(pose, keep_Z)
        except BadVolume:
            return None
        return _Fit(base, pose, base.predicted(pose))

    def _linearise(self, pose: Float64Array, keep_Z: BoolArray | None = None) -> Linearisation:
        """The linearisation at a pose: a function of reference, mask, pose and the volume's grid (and slices) alone."""
        grid = self._grid
        to_volume = np.linalg.inv(grid.affine) @ rigid.inverse(pose) @ self._frame.affine
        used = np.zeros(grid.shape, np.bool_)
        mark_nearest(self._ijk_N3, np.ascontiguousarray(to_volume[:3]), used)
        if keep_Z is not None:
            used &= keep_Z if grid.slice_axis == 2 else keep_Z[:, None, None]
        index_N = np.flatnonzero(used)
        if index_N.shape[0] < MIN_VOXELS:
            raise BadVolume(
                "expected a volume that overlaps the reference, got one elsewhere: check that both are of the same "
                "session, or start with a reference of this one",
                code="motion.no_overlap",
            )
        ijk_N3 = np.stack(np.unravel_index(index_N, grid.shape), axis=1).astype(np.int16)
        return Linearisation(self._frame, pose, grid, ijk_N3, index_N)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
        return {
            "pose": self._pose.copy(),
            "base_pose": self._base_pose.copy(),
            "known_pose": self._known_pose.copy(),
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
        self._base_pose = np.array(state["base_pose"], dtype=np.float64)
        self._known_pose = np.array(state["known_pose"], dtype=np.float64)
        self._usual = float(state["usual"])
        self._usual_Z = np.array(state["usual_Z"], dtype=np.float64)
        self._gain, self._offset = state["gain_offset"].tolist()
        x, y, z = state["grid_shape"].tolist()
        affine = np.array(state["grid_affine"], dtype=np.float64)
        self._grid = Grid(affine, (x, y, z), int(state["grid_slice_axis"]))
        self._fit = None

    @classmethod
    def restore(cls, reference: Volume, state: dict[str, NDArray[Any]], mask: BoolArray | None = None) -> Realigner:
        """A realigner as it was when ``state()`` was taken."""
        realigner = cls(reference, mask)
        realigner.load_state(state)
        return realigner
