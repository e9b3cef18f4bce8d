"""The time courses of regions of interest: each volume's mean over a mask, and its change from a declared baseline.

Knows nothing of betas. A session without a bundle measures the regions that are declared before its first volume
whole; otherwise voxels outside the session's mask do not count. V voxels of the session's mask, R those of them in a
region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.ingest.outputs import RoiValue
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.rules import Alert
from mindsight.volume import Volume

MAX_ROIS = 16
RESPONSE_LAG_S = 5.0  # of a block's response: the peak of the canonical response to an impulse (Glover 1999)
OFF_GRID = 0.1  # voxels by which a mask may lie beside the session's: what rounding in headers makes

Kind = Literal["rest", "seconds", "label"]


@dataclass(frozen=True, slots=True)
class RoiBaseline:
    """The volumes that a region's change is relative to.

    kind : "rest": those in no event; "seconds": those from ``from_s`` until before ``until_s`` of the run; "label":
        those in events with this ``label``. Events count from ``RESPONSE_LAG_S`` after their onset until
        ``RESPONSE_LAG_S`` after their end. Excluded volumes never count
    """

    kind: Kind = "rest"
    from_s: float = 0.0
    until_s: float = 0.0
    label: str | None = None


@dataclass(frozen=True, eq=False)
class Roi:
    """A region of interest.

    mask_XYZ : (X, Y, Z) bool on a grid of its own, at ``affine``, voxel index -> scanner RAS+ millimetres
    """

    name: str
    mask_XYZ: NDArray[np.bool_]
    affine: NDArray[np.float64]
    baseline: RoiBaseline = RoiBaseline()


@dataclass
class _Course:
    """One region in the present run. ``sum`` and ``n`` are of its means in the baseline's volumes."""

    roi: Roi
    voxels_R: NDArray[np.intp] | None = None  # None: the session's space is not known, or the mask does not fit it
    sum: float = 0.0
    n: int = 0

    def restart(self) -> None:
        self.sum, self.n = 0.0, 0


@dataclass
class RoiCourses:
    """A session's regions, and the baselines of its present run."""

    _courses: dict[str, _Course] = field(default_factory=dict)
    _events: list[tuple[float, float, str | None]] = field(default_factory=list)

    def start_run(self) -> None:
        """Baselines are a run's own."""
        self._events = []
        for course in self._courses.values():
            course.restart()

    def declare(self, roi: Roi, space: SubjectSpace | None) -> None:
        """Measure a region from the next volume on, in place of an earlier one of this name.

        Raises BadRequest (``roi.count``; ``roi.grid``, ``roi.outside`` if the space is known).
        """
        if roi.name not in self._courses and len(self._courses) >= MAX_ROIS:
            raise BadRequest(f"expected at most {MAX_ROIS} regions, got another: join some", code="roi.count")
        voxels_R = None if space is None else voxels_of(roi, space)
        self._courses[roi.name] = _Course(roi, voxels_R)

    def joined(self, mask_XYZ: NDArray[np.bool_], reference: Volume) -> NDArray[np.bool_]:
        """A session's mask and its regions: where the mask is ours to choose, a region is measured whole."""
        joined_XYZ = mask_XYZ.copy()
        for course in self._courses.values():
            try:
                joined_XYZ[tuple(_cells(course.roi, reference).T)] = True
            except BadRequest:
                continue  # ``enter`` reports it
        return joined_XYZ

    def enter(self, space: SubjectSpace) -> list[Alert]:
        """The session's space is known now. Returns an alert if regions do not fit, which are not measured."""
        misfits = []
        for name, course in list(self._courses.items()):
            try:
                course.voxels_R = voxels_of(course.roi, space)
            except BadRequest as error:
                del self._courses[name]
                misfits.append(str(error))
        return [Alert("roi.grid", "; ".join(misfits), "error")] if misfits else []

    def add_event(self, onset_s: float, duration_s: float, label: str | None) -> None:
        """An event of the present run."""
        self._events.append((onset_s, duration_s, label))

    def measure(self, voxels_V: NDArray[np.float32], at_s: float, censored: bool) -> tuple[RoiValue, ...]:
        """The next volume.

        at_s : when it began, seconds of the run
        censored : it is excluded, also from the baselines
        """
        return tuple(self._value(course, voxels_V, at_s, censored) for course in self._courses.values())

    def _value(self, course: _Course, voxels_V: NDArray[np.float32], at_s: float, censored: bool) -> RoiValue:
        assert course.voxels_R is not None
        mean = float(voxels_V[course.voxels_R].mean(dtype=np.float64))
        if not censored and self._is_baseline(course.roi.baseline, at_s):
            course.sum += mean
            course.n += 1
        level = course.sum / course.n if course.n else 0.0
        percent = 100.0 * (mean - level) / level if level > 0.0 else None
        return RoiValue(course.roi.name, mean, percent, len(course.voxels_R))

    def _is_baseline(self, baseline: RoiBaseline, at_s: float) -> bool:
        if baseline.kind == "seconds":
            return baseline.from_s <= at_s < baseline.until_s
        inside = {
            label
            for onset_s, duration_s, label in self._events
            if onset_s + RESPONSE_LAG_S <= at_s < onset_s + duration_s + RESPONSE_LAG_S
        }
        return not inside if baseline.kind == "rest" else baseline.label in inside

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Regions and baselines, as arrays and as a JSON document."""
        arrays: dict[str, NDArray[Any]] = {}
        regions = []
        for k, course in enumerate(self._courses.values()):
            roi = course.roi
            arrays[f"{k}.mask"], arrays[f"{k}.affine"] = roi.mask_XYZ.astype(np.uint8), roi.affine.copy()
            base = roi.baseline
            regions.append([roi.name, [base.kind, base.from_s, base.until_s, base.label], course.sum, course.n])
        return arrays, {"regions": regions, "events": [list(event) for event in self._events]}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], space: SubjectSpace | None
    ) -> RoiCourses:
        courses = cls(_events=[(onset_s, duration_s, label) for onset_s, duration_s, label in meta["events"]])
        for k, (name, baseline, total, n) in enumerate(meta["regions"]):
            mask_XYZ, affine = arrays[f"{k}.mask"].astype(np.bool_), arrays[f"{k}.affine"].astype(np.float64)
            roi = Roi(name, mask_XYZ, affine, RoiBaseline(*baseline))
            voxels_R = None if space is None else voxels_of(roi, space)
            courses._courses[name] = _Course(roi, voxels_R, total, n)
        return courses


def voxels_of(roi: Roi, space: SubjectSpace) -> NDArray[np.intp]:
    """(R,) which of the session's V voxels are in the region.

    The mask's grid may have other axes or another extent, but its voxels must be the reference's.
    Raises BadRequest (``roi.grid``, ``roi.outside``).
    """
    cells_R3 = _cells(roi, space.reference)
    numbers_XYZ = np.full(space.mask_XYZ.shape, -1, np.int64)
    numbers_XYZ[space.mask_XYZ] = np.arange(space.n_voxels)
    numbers_R = numbers_XYZ[tuple(cells_R3.T)]
    voxels_R = np.sort(numbers_R[numbers_R >= 0])
    if voxels_R.size == 0:
        raise BadRequest(
            f"region {roi.name}: expected voxels in the session's mask of {space.n_voxels} voxels, got none of"
            f" {int(roi.mask_XYZ.sum())} there: check that the mask is of this subject and session",
            code="roi.outside",
        )
    return voxels_R.astype(np.intp)


def _cells(roi: Roi, reference: Volume) -> NDArray[np.int64]:
    """(R, 3) the region's voxels on the reference's grid, those inside of it. Raises BadRequest (``roi.grid``)."""
    to_reference = np.linalg.inv(reference.affine) @ roi.affine
    at_R3 = np.argwhere(roi.mask_XYZ) @ to_reference[:3, :3].T + to_reference[:3, 3]
    cells_R3 = np.rint(at_R3).astype(np.int64)
    steps = np.abs(to_reference[:3, :3])
    same_size = np.abs(steps - np.rint(steps)).max() < OFF_GRID / 10 and abs(abs(np.linalg.det(steps)) - 1) < OFF_GRID
    if not same_size or np.abs(at_R3 - cells_R3).max() > OFF_GRID:
        raise BadRequest(
            f"region {roi.name}: expected a mask with the voxels of the session's reference"
            f" ({_grid(reference.shape, reference.affine)}), got {_grid(roi.mask_XYZ.shape, roi.affine)}: resample it"
            " to a volume of this session (nilearn.image.resample_to_img, interpolation='nearest')",
            code="roi.grid",
        )
    return cells_R3[((cells_R3 >= 0) & (cells_R3 < np.array(reference.shape))).all(axis=1)]


def _grid(shape: tuple[int, ...], affine: NDArray[np.float64]) -> str:
    sides = " x ".join(f"{mm:.2f}" for mm in np.linalg.norm(affine[:3, :3], axis=0))
    corner = ", ".join(f"{mm:.1f}" for mm in affine[:3, 3])
    return f"{' x '.join(map(str, shape))} voxels of {sides} mm, the first at {corner}"
