"""One session: runs, events and volumes in, in the order in which they happened; quality and betas out.

Knows nothing of logs, files or the wall clock. The same calls give the same bits, also with ``state`` and ``restore``
between any two of them. No beta depends on a later volume.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.errors import Conflict, NotFound, OutOfOrder
from mindsight.glm import Event, Statistics
from mindsight.glm.voxel_course import VoxelCourse
from mindsight.ingest.betas import BetaScorer
from mindsight.ingest.clocks import RunClocks
from mindsight.ingest.given_motion import GivenMotion, MotionOrder
from mindsight.ingest.known_space import KnownSpace
from mindsight.ingest.measure import Grid, check_volume, measure_volume
from mindsight.ingest.options import IngestOptions
from mindsight.ingest.outputs import TrialBeta, VolumeOutput
from mindsight.ingest.rois import Roi, RoiCourses
from mindsight.ingest.run import Run
from mindsight.ingest.space import SubjectSpace
from mindsight.ingest.state import IngestState, part
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.preprocessing.quality.rules import Alert
from mindsight.preprocessing.registration.session_reference import SessionReference
from mindsight.volume import Volume


class IngestSession:
    """The state machine of one session. One run at a time is open.

    options : how betas are estimated
    space : where the voxels are; None: the first volume is the reference, and the head in it the mask, with the
        regions of interest declared by then
    statistics : of the calibration's betas; None without a calibration
    baseline : the calibration's signal; None if it was not measured
    clock : seconds, for ``VolumeOutput.timings_ms`` only
    motion_device : where motion is estimated, see ``Realigner``; None: this processor

    Motion is estimated, and each run registered to the subject's space, see ``SessionReference``; unless a run brings
    its own motion or the reference has too few slices for six parameters: volumes are then taken as they are.
    """

    def __init__(
        self,
        options: IngestOptions,
        space: SubjectSpace | None = None,
        statistics: Statistics | None = None,
        *,
        baseline: Baseline | None = None,
        clock: Callable[[], float],
        motion_device: str | None = None,
    ) -> None:
        self._options = options
        self._fd_threshold_mm = options.fd_threshold_mm
        self._limits = options.limits
        self._baseline = baseline
        self._statistics = statistics
        self._clock = clock
        self._motion_device = motion_device
        self._finds_space = space is None
        self._known = None if space is None else self._know(space)
        self._run: Run | None = None
        self._runs: list[int] = []
        self._given_motion = GivenMotion()
        self._grid: Grid | None = None
        self._clocks = RunClocks()
        self._reported_prospective = False
        self._rois = RoiCourses()

    @property
    def space(self) -> SubjectSpace | None:
        """Reference and mask; None before the first volume of a session that was given none."""
        return None if self._known is None else self._known.space

    @property
    def options(self) -> IngestOptions:
        """As the session began."""
        return self._options

    @property
    def fd_threshold_mm(self) -> float:
        """Framewise displacement above which a volume is censored."""
        return self._fd_threshold_mm

    @property
    def limits(self) -> QualityLimits:
        """When alerts are raised, see ``Alerts``."""
        return self._limits

    def set_limits(self, limits: QualityLimits, fd_threshold_mm: float) -> None:
        """Apply these limits from the next volume on."""
        self._limits, self._fd_threshold_mm = limits, fd_threshold_mm
        if self._run is not None:
            self._run.set_limits(limits)

    @property
    def n_volumes(self) -> int:
        """Volumes of the present run so far, including missing ones: the next index."""
        return 0 if self._run is None else self._run.next_index

    @property
    def open_run(self) -> int | None:
        """Number of the run that has started and not ended."""
        return None if self._run is None or self._run.ended else self._run.number

    def start_run(
        self,
        run: int,
        tr_s: float,
        n_volumes: int | None = None,
        motion_T6: ArrayLike | None = None,
        motion_order: MotionOrder | None = None,
        *,
        brings_motion: bool = False,
    ) -> None:
        """Begin a run.

        motion_T6 : (T, 6) motion parameters of its volumes, raw, used as confounds; motion is then not estimated
        motion_order : which three of them come first, in mm and radians; None: unknown, so there is no framewise
            displacement
        brings_motion : each volume brings its own parameters instead (``Volume.motion_6``)

        Raises Conflict (``run.active``, ``run.taken``), BadRequest (``motion.shape``, ``run.length_unknown``).
        """
        if self._run is not None and not self._run.ended:
            raise Conflict(
                f"expected run {self._run.number} to end before run {run} starts", code="run.active", run=run
            )
        if run in self._runs:
            raise Conflict(f"expected a new run, got run {run} again", code="run.taken", run=run)
        self._given_motion = GivenMotion.of_run(motion_T6, n_volumes, motion_order, brings_motion)
        self._grid = None
        self._clocks, self._reported_prospective = RunClocks(), False
        if self._known is not None and self._known.reference is not None:
            self._known.reference.start_run()
        self._run = Run(
            run,
            tr_s,
            n_volumes,
            self._options,
            0 if self.space is None else self.space.n_voxels,
            self._n_confounds(),
            self.space,
            limits=self._limits,
            baseline=self._baseline,
        )
        self._runs.append(run)
        self._rois.start_run()

    def declare_roi(self, roi: Roi) -> None:
        """Measure a region of interest from the next volume on, in place of an earlier one of this name.

        Raises BadRequest (``roi.count``; ``roi.grid``, ``roi.outside``, which is an alert of the first volume if the
        space is not known yet).
        """
        self._rois.declare(roi, self.space)

    def add_event(self, run: int, event: Event, label: str | None = None) -> None:
        """An event of the open run, before or after its time. A trial without a measured volume in its response has no
        beta, see ``unmeasured_trials``.

        label : its kind, which may be a region's baseline

        Raises BadRequest (``trial.duplicate``), NotFound or Conflict for another run.
        """
        self._open(run).add_event(event)
        self._rois.add_event(event.onset_s, event.duration_s, label)

    def push(self, volume: Volume) -> VolumeOutput:
        """The next volume of the open run.

        Raises OutOfOrder (``expected_index``), BadVolume (``volume.shape_mismatch``, ``volume.tr_mismatch``,
        ``volume.not_finite``), NotFound or Conflict for another run, BadRequest (``motion.shape``) if the given
        motion ends. After an error the session is as before.
        """
        began_s = self._clock()
        run = self._expect(volume.run, volume.index)
        space = self.space or SubjectSpace(volume, self._rois.joined(brain_mask(volume.data), volume))
        stated = check_volume(volume, space, self._grid, run.tr_s, self._given_motion)
        misfits: list[Alert] = []
        if self._known is None:
            self._known = self._know(space)
            run = self._run = run.resized(space.n_voxels, self._n_confounds())
            misfits = self._rois.enter(self._known.space)
        self._grid = self._grid or (volume.shape, volume.affine)
        alerts = misfits + self._clocks.push(volume, run.tr_s) + self._report_prospective(stated)
        measured = measure_volume(
            run,
            replace(volume, affine=self._grid[1]),
            stated,
            self._known.space,
            self._reference,
            self._given_motion,
            self._fd_threshold_mm,
        )
        report = replace(measured.report, alerts=(*alerts, *measured.report.alerts))
        measured_s = self._clock()
        run.take(measured.voxels_V, measured.confounds_C, report.censored_by)
        rois = self._rois.measure(measured.voxels_V, volume.index * run.tr_s, report.censored)
        taken_s = self._clock()
        betas = self._scorer(self._known).due_betas(run)
        timings_s = {
            "motion": measured_s - began_s,
            "glm": taken_s - measured_s,
            "beta": self._clock() - taken_s,
        }
        timings_ms = {name: 1e3 * value for name, value in timings_s.items()}
        return VolumeOutput(report, betas, timings_ms, measured.registration, rois)

    def mark_missing(self, run: int, index: int) -> list[TrialBeta]:
        """The next volume of the open run is missing. Returns the betas that are due at its time.

        Raises as ``push``.
        """
        present = self._expect(run, index)
        present.skip()
        return [] if self._known is None else self._scorer(self._known).due_betas(present)

    def end_run(self, run: int) -> list[TrialBeta]:
        """End the run. Returns the final betas that were not delivered yet, in the order of the trials' declaration; a
        trial without a measured volume in its response has none.

        Raises NotFound or Conflict for another run than the open one.
        """
        present = self._open(run)
        present.ended = True
        return [] if self._known is None else self._scorer(self._known).final_betas(present)

    def abandon_run(self) -> None:
        """End the open run, if there is one, without its final betas: they could not be computed."""
        if self._run is not None:
            self._run.ended = True

    def end_alerts(self, run: int) -> list[Alert]:
        """End the latest run's conditions that still hold, with an alert each. Raises NotFound for another run."""
        return self._latest(run).end_alerts()

    def unmeasured_trials(self, run: int) -> tuple[int, ...]:
        """Trials of the latest run without a measured volume in their response so far.

        Raises NotFound for another run.
        """
        return self._latest(run).unmeasured_trials

    def n_events(self, run: int) -> int:
        """Events declared of the latest run. Raises NotFound for another run."""
        return self._latest(run).n_events

    def _latest(self, run: int) -> Run:
        if self._run is None or self._run.number != run:
            raise NotFound(f"expected the latest run, got run {run}", code="run.unknown", run=run)
        return self._run

    def run_series(self, run: int) -> NDArray[np.float32]:
        """(T, V) voxels of the latest run, open or ended, until the next one starts; 0 where its volumes do not reach.

        Raises NotFound for another run.
        """
        series_TV = self._latest(run).series()
        reference = self._reference
        if reference is not None and reference.uncovered_V.any():
            return np.where(reference.uncovered_V, np.float32(0.0), series_TV)
        return series_TV

    def voxel_course(
        self, run: int, voxel: tuple[int, int, int], trial: int | None = None
    ) -> tuple[VoxelCourse, list[bool]] | None:
        """Data and fit of a voxel of the reference's grid, in the latest run, and which volumes were excluded; None for
        a voxel outside the mask.

        Raises NotFound for another run; BadRequest as ``StreamingGLM.course``.
        """
        present, space = self._latest(run), self.space
        if space is None or not all(0 <= i < n for i, n in zip(voxel, space.mask_XYZ.shape, strict=True)):
            return None
        if not space.mask_XYZ[voxel]:
            return None
        number = np.count_nonzero(space.mask_XYZ.ravel()[: np.ravel_multi_index(voxel, space.mask_XYZ.shape)])
        return present.course(int(number), trial)

    def _know(self, space: SubjectSpace) -> KnownSpace:
        return KnownSpace.of(
            space, self._options, self._statistics, self._motion_device, calibrated=not self._finds_space
        )

    @property
    def _reference(self) -> SessionReference | None:
        """What the present run's volumes are registered with; None if they are taken as they are."""
        return None if self._known is None or self._given_motion else self._known.reference

    def _scorer(self, known: KnownSpace) -> BetaScorer:
        return BetaScorer(known.normaliser, self._reference)

    def _n_confounds(self) -> int:
        has_motion = bool(self._given_motion) or (self._known is not None and self._known.reference is not None)
        return 6 if has_motion and self._options.motion_confounds else 0

    def _open(self, run: int) -> Run:
        if run not in self._runs:
            raise NotFound(f"expected a run that was started, got run {run}", code="run.unknown", run=run)
        if self._run is None or self._run.ended or self._run.number != run:
            raise Conflict(f"expected the open run, got run {run}, which has ended", code="run.ended", run=run)
        return self._run

    def _expect(self, run: int, index: int) -> Run:
        present = self._open(run)
        if index != present.next_index:
            raise OutOfOrder(
                f"expected volume {present.next_index} of run {run}, got volume {index}",
                expected_index=present.next_index,
                index=index,
            )
        self._given_motion.check_index(index)
        return present

    def _report_prospective(self, stated: NDArray[np.float64]) -> list[Alert]:
        if self._reported_prospective or np.array_equal(stated, np.eye(4)):
            return []
        self._reported_prospective = True
        text = (
            "The scanner moves its slices with the head (prospective motion correction). Volumes are processed on the"
            " grid of the run's first; the movement that the scanner followed is included in the motion reported."
            " Nothing needs to be done."
        )
        return [Alert("motion.followed", text, "info")]

    def state(self) -> IngestState:
        """Everything the session depends on, between any two calls."""
        arrays: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {
            "options": asdict(self._options),
            "limits": asdict(self._limits),
            "fd_threshold_mm": self._fd_threshold_mm,
            "motion_order": self._given_motion.order,
            "brings_motion": self._given_motion.per_volume,
            "reported_prospective": self._reported_prospective,
            "runs": self._runs.copy(),
            "run": None,
            "space": None,
        }
        if self._run is not None:
            run_arrays, meta["run"] = self._run.state()
            arrays |= {f"run.{name}": array for name, array in run_arrays.items()}
        arrays |= {f"clocks.{name}": array for name, array in self._clocks.state().items()}
        if self._given_motion.rows_T6 is not None:
            arrays["motion_T6"] = self._given_motion.rows_T6.copy()
        if self._grid is not None:
            arrays["grid.shape"], arrays["grid.affine"] = np.array(self._grid[0]), self._grid[1].copy()
        roi_arrays, meta["rois"] = self._rois.state()
        arrays |= {f"rois.{name}": array for name, array in roi_arrays.items()}
        if self._known is not None:
            arrays |= self._known.state()
            if self._finds_space:
                reference = self._known.space.reference
                arrays["space.data"], arrays["space.affine"] = reference.data, reference.affine
                arrays["space.mask"] = self._known.space.mask_XYZ
                if reference.slice_times_s is not None:
                    arrays["space.slice_times"] = reference.slice_times_s
                meta["space"] = {"tr_s": reference.tr_s, "run": reference.run, "index": reference.index}
        return IngestState(arrays, meta)

    @classmethod
    def restore(
        cls,
        state: IngestState,
        options: IngestOptions,
        space: SubjectSpace | None = None,
        statistics: Statistics | None = None,
        *,
        baseline: Baseline | None = None,
        clock: Callable[[], float],
        motion_device: str | None = None,
    ) -> IngestSession:
        """The session as it was when ``state`` was taken, made with the same options, space, statistics and
        baseline.

        Raises Conflict (``ingest.options_changed``).
        """
        arrays, meta = state.arrays, state.meta
        if meta["options"] != asdict(options):
            raise Conflict(
                "expected the options that the session began with, got others", code="ingest.options_changed"
            )
        session = cls(options, space, statistics, baseline=baseline, clock=clock, motion_device=motion_device)
        session._limits, session._fd_threshold_mm = QualityLimits(**meta["limits"]), meta["fd_threshold_mm"]
        if meta["space"] is not None:
            reference = Volume(
                data=arrays["space.data"],
                affine=arrays["space.affine"],
                slice_times_s=arrays.get("space.slice_times"),
                **meta["space"],
            )
            session._known = session._know(SubjectSpace(reference, arrays["space.mask"].astype(np.bool_)))
        session._runs = list(meta["runs"])
        rows_T6 = arrays["motion_T6"].astype(np.float64) if "motion_T6" in arrays else None
        session._given_motion = GivenMotion(rows_T6, meta["motion_order"], meta["brings_motion"])
        session._reported_prospective = meta["reported_prospective"]
        session._clocks.load_state(part(arrays, "clocks."))
        if "grid.shape" in arrays:
            x, y, z = (int(n) for n in arrays["grid.shape"])
            session._grid = ((x, y, z), arrays["grid.affine"].astype(np.float64))
        if session._known is not None:
            session._known.load_state(arrays)
        session._rois = RoiCourses.restore(part(arrays, "rois."), meta["rois"], session.space)
        if meta["run"] is not None:
            session._run = Run.restore(
                options,
                session.space,
                part(arrays, "run."),
                meta["run"],
                limits=session._limits,
                baseline=baseline,
            )
        return session
