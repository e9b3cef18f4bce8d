"""One session: runs, events and volumes in, in the order in which they happened; quality and betas out.

Knows nothing of logs, files or the wall clock. The same calls give the same bits, also when ``state`` and ``restore``
stand between any two of them. No answer rests on a volume that came after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.errors import BadRequest, BadVolume, Conflict, NotFound, OutOfOrder
from mindsight.glm import Event, Normaliser, Statistics
from mindsight.ingest.clocks import Clocks
from mindsight.ingest.followed import followed
from mindsight.ingest.followed import motion_6 as motion_about
from mindsight.ingest.placement import Placement
from mindsight.ingest.places import Places
from mindsight.ingest.records import (
    IngestOptions,
    IngestState,
    MotionOrder,
    Space,
    TrialBeta,
    VolumeOutput,
    VolumeReport,
)
from mindsight.ingest.run import Answer, Run, part
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.realign import MIN_SLICES
from mindsight.preprocessing.quality.alerts import Alert, Baseline, QualityLimits, VolumeFigures
from mindsight.stages import Stage
from mindsight.volume import Volume, same_tr


class IngestSession:
    """The state machine of one session. One run at a time is open.

    options : how betas come about
    space : where the voxels are; None: the first volume is the reference, and the head in it the mask
    statistics : of the calibration's betas, None where there was none
    baseline : the calibration's signal, None where it was not measured
    clock : seconds, for ``VolumeOutput.timings_ms`` only
    motion_device : where motion is estimated, see ``Realigner``; None: this processor

    Motion is estimated, and each run placed in the subject's space, see ``Places``; unless a run brings its own motion
    or the reference has too few slices for six parameters: volumes are then taken as they are.
    """

    def __init__(
        self,
        options: IngestOptions,
        space: Space | None = None,
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
        self._space: Space | None = None
        self._space_is_own = space is None
        self._places: Places | None = None
        self._normaliser: Normaliser | None = None
        self._run: Run | None = None
        self._runs: list[int] = []
        self._motion_T6: NDArray[np.float64] | None = None
        self._motion_order: MotionOrder | None = None
        self._brings_motion = False
        self._grid: tuple[tuple[int, int, int], NDArray[np.float64]] | None = None  # of the run's first volume
        self._clocks = Clocks()
        self._said_followed = False
        if space is not None:
            self._settle(space)

    @property
    def space(self) -> Space | None:
        """Reference and mask; None before the first volume of a session that was given none."""
        return self._space

    @property
    def options(self) -> IngestOptions:
        """What the session began with."""
        return self._options

    @property
    def fd_threshold_mm(self) -> float:
        """Framewise displacement above which a volume is censored."""
        return self._fd_threshold_mm

    @property
    def limits(self) -> QualityLimits:
        """Beyond which a person is told."""
        return self._limits

    def set_limits(self, limits: QualityLimits, fd_threshold_mm: float) -> None:
        """Other limits, from the next volume on."""
        self._limits, self._fd_threshold_mm = limits, fd_threshold_mm
        if self._run is not None:
            self._run.set_limits(limits)

    @property
    def n_volumes(self) -> int:
        """Volumes of the present run so far, missing ones among them: the index that comes next."""
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
        motion_order : which three of them come first, in mm and radians; None: nobody knows, and there is no
            framewise displacement
        brings_motion : the same, where each volume brings its own (``Volume.motion_6``)

        Raises Conflict (``run.active``, ``run.taken``), BadRequest (``motion.shape``, ``run.length_unknown``).
        """
        if self._run is not None and not self._run.ended:
            raise Conflict(
                f"expected run {self._run.number} to end before run {run} starts", code="run.active", run=run
            )
        if run in self._runs:
            raise Conflict(f"expected a run that was not there yet, got run {run} again", code="run.taken", run=run)
        motion = None if motion_T6 is None else np.array(motion_T6, dtype=np.float64)
        if motion is not None and (motion.ndim != 2 or motion.shape[1] != 6 or len(motion) < (n_volumes or 0)):
            raise BadRequest(
                f"expected six motion parameters for each of {n_volumes or 'T'} volumes, got shape {motion.shape}",
                code="motion.shape",
            )
        self._motion_T6, self._motion_order, self._brings_motion = motion, motion_order, brings_motion
        self._grid = None
        self._clocks, self._said_followed = Clocks(), False
        if self._places is not None:
            self._places.start_run()
        n_voxels = 0 if self._space is None else self._space.n_voxels
        self._run = Run(
            run,
            tr_s,
            n_volumes,
            self._options,
            n_voxels,
            self._n_confounds(),
            self._space,
            limits=self._limits,
            baseline=self._baseline,
        )
        self._runs.append(run)

    def add_event(self, run: int, event: Event) -> None:
        """An event of the open run, before or after its time. One that no volume shows has no answer: ``unseen``.

        Raises BadRequest (``trial.duplicate``), NotFound or Conflict for another run.
        """
        self._open(run).add_event(event)

    def push(self, volume: Volume) -> VolumeOutput:
        """The next volume of the open run.

        Raises OutOfOrder (``expected_index``), BadVolume (``volume.shape_mismatch``, ``volume.tr_mismatch``,
        ``volume.not_finite``), NotFound or Conflict for another run, BadRequest (``motion.shape``) where the given
        motion ends. After an error the session is as before.
        """
        began_s = self._clock()
        run = self._expect(volume.run, volume.index)
        space = self._space or Space(volume, brain_mask(volume.data))
        stated = self._check(volume, space, run.tr_s)
        if self._space is None:
            self._settle(space)
            run = self._run = run.resized(space.n_voxels, self._n_confounds())
        self._grid = self._grid or (volume.shape, volume.affine)
        alerts = self._clocks.push(volume, run.tr_s) + self._say_followed(stated)
        on_grid = replace(volume, affine=self._grid[1])
        voxels_V, report, confounds_C, placement = self._measure(run, on_grid, stated)
        report = replace(report, alerts=(*alerts, *report.alerts))
        measured_s = self._clock()
        run.take(voxels_V, confounds_C, report.censored)
        taken_s = self._clock()
        betas = self._answer(run)
        timings_s = {
            "motion": measured_s - began_s,
            "glm": taken_s - measured_s,
            "beta": self._clock() - taken_s,
        }
        return VolumeOutput(report, betas, {name: 1e3 * value for name, value in timings_s.items()}, placement)

    def mark_missing(self, run: int, index: int) -> list[TrialBeta]:
        """The next volume of the open run will not come. Returns the answers that are due at its time.

        Raises as ``push``.
        """
        present = self._expect(run, index)
        present.skip()
        return self._answer(present) if self._space is not None else []

    def end_run(self, run: int) -> list[TrialBeta]:
        """No more volumes of this run. Returns the final answer of every trial of whose response something was measured
        and that was not given it yet, as declared in order.

        Raises NotFound or Conflict for another run than the open one.
        """
        present = self._open(run)
        present.ended = True
        if self._normaliser is None:
            return []
        finals = present.finals()
        for trial, answer in finals.items():
            if present.has_risen(trial):
                self._learn(trial, answer)
        answers = [self._with_statistics(present, trial, "final", answer) for trial, answer in finals.items()]
        self._normaliser.end_run()
        return answers

    def last_alerts(self, run: int) -> list[Alert]:
        """What was said of the latest run's quality and still holds at its end, ended. Raises NotFound for another."""
        return self._latest(run).last_alerts()

    def unseen(self, run: int) -> tuple[int, ...]:
        """Trials of the latest run of whose response no volume was measured so far.

        Raises NotFound for another run.
        """
        return self._latest(run).unseen

    def n_events(self, run: int) -> int:
        """Events declared of the latest run. Raises NotFound for another run."""
        return self._latest(run).n_events

    def _latest(self, run: int) -> Run:
        if self._run is None or self._run.number != run:
            raise NotFound(f"expected the latest run, got run {run}", code="run.unknown", run=run)
        return self._run

    def run_series(self, run: int) -> NDArray[np.float32]:
        """(T, V) voxels of the latest run, open or ended, until the next one starts; 0 where its volumes show nothing.

        Raises NotFound for another run.
        """
        series_TV = self._latest(run).series()
        if self._places is not None and self._realigns and self._places.uncovered_V.any():
            return np.where(self._places.uncovered_V, np.float32(0.0), series_TV)
        return series_TV

    def _settle(self, space: Space) -> None:
        # The realigner's sums follow the order in memory, which a way through a file may change: x fastest, always.
        reference = replace(space.reference, data=np.asfortranarray(space.reference.data))
        space = replace(space, reference=reference)
        if min(space.reference.shape) >= MIN_SLICES:
            self._places = Places(space, fast=self._options.fast_motion, device=self._motion_device)
        self._space = space
        self._normaliser = Normaliser(
            space.n_voxels,
            self._options.normalise,
            self._statistics,
            min_betas=self._options.min_betas,
            prior_betas=self._options.prior_betas,
            std_floor=self._options.std_floor,
        )

    def _n_confounds(self) -> int:
        has_motion = self._places is not None or self._motion_is_given
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
        if self._motion_T6 is not None and index >= len(self._motion_T6):
            raise BadRequest(
                f"expected motion parameters for every volume, got {len(self._motion_T6)} rows and volume {index}",
                code="motion.shape",
            )
        return present

    def _check(self, volume: Volume, space: Space, tr_s: float) -> NDArray[np.float64]:
        """One TR and one grid per run, which may follow the head; where volumes are taken as they are, the
        reference's, and numbers in the mask. Returns how far the scanner followed the head, see ``followed``.
        """
        if not same_tr(volume.tr_s, tr_s):
            raise BadVolume(
                f"expected volumes with the run's TR of {tr_s:g} s, got one that states {volume.tr_s:g} s: end the run,"
                " start another",
                code="volume.tr_mismatch",
            )
        as_it_is = self._motion_is_given or min(space.reference.shape) < MIN_SLICES
        shape, affine = self._grid or (space.reference.shape if as_it_is else volume.shape, volume.affine)
        stated = followed(affine, volume.affine, shape) if volume.shape == shape else None
        if stated is None:
            other = "" if volume.shape != shape else " at another place"
            raise BadVolume(
                f"expected a volume of shape {shape} as before, got {volume.shape}{other}: end the run, start another",
                code="volume.shape_mismatch",
                expected="x".join(map(str, shape)),
                got="x".join(map(str, volume.shape)),
            )
        if self._brings_motion and volume.motion_6 is None:
            raise BadVolume(
                "expected six motion parameters with each volume of the run, got none", code="volume.motion"
            )
        if as_it_is and not np.isfinite(volume.data[space.mask_XYZ]).all():
            raise BadVolume("expected finite numbers, got NaN or infinity in the mask", code="volume.not_finite")
        return stated

    def _say_followed(self, stated: NDArray[np.float64]) -> list[Alert]:
        if self._said_followed or np.array_equal(stated, np.eye(4)):
            return []
        self._said_followed = True
        text = (
            "The scanner moves its slices with the head (prospective motion correction). Volumes are taken on the grid"
            " of the run's first; what the scanner followed counts as movement."
        )
        return [Alert("motion.followed", text, "info")]

    @property
    def _motion_is_given(self) -> bool:
        return self._motion_T6 is not None or self._brings_motion

    @property
    def _realigns(self) -> bool:
        return self._places is not None and not self._motion_is_given

    def _measure(
        self, run: Run, volume: Volume, stated: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], VolumeReport, NDArray[np.float64], Placement | None]:
        assert self._space is not None
        translation_mm = rotation_rad = residual = placement = displacement_mm = None
        outlier_slices: tuple[int, ...] = ()
        if self._realigns:
            assert self._places is not None
            placed = self._places.place(volume)
            aligned, placement = placed.aligned, placed.placement
            voxels_V, motion, converged = placed.voxels_V, stated @ aligned.rigid, placed.converged
            motion_6 = motion_about(motion, aligned.centre_mm)
            translation_mm, rotation_rad = _triple(motion[:3, 3]), _triple(motion_6[3:])
            displacement_mm = rigid.displacement_mm(motion, aligned.centre_mm)
            residual, outlier_slices = aligned.residual, aligned.outlier_slices
        else:
            voxels_V = volume.data[self._space.mask_XYZ].astype(np.float32)
            if self._motion_is_given:
                motion_6 = self._in_order(self._given_motion(volume))
            else:  # as the scanner states that it followed the head
                centre_mm = (volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1.0])[:3]
                motion_6 = motion_about(stated, centre_mm)
            converged = True
        spike = run.is_broken(voxels_V, converged)
        figures = run.judge(voxels_V, motion_6, spike or not converged)
        is_stated = not self._motion_is_given and bool(figures.fd_mm)  # by the scanner that follows the head
        fd_mm = figures.fd_mm if self._realigns or self._motion_order is not None or is_stated else None
        good = converged and (fd_mm is None or fd_mm <= self._fd_threshold_mm)
        alerts = run.alert(
            VolumeFigures(
                fd_mm=fd_mm,
                dvars_percent=figures.dvars_percent,
                tsnr=figures.tsnr,
                displacement_mm=displacement_mm,
                mean_signal=float(voxels_V.mean()),
                residual=residual,
                outlier_share=len(outlier_slices) / volume.shape[2],
                unplaced=not converged,
                spike=spike,
                censored=spike or not good,
                trials=run.trials_at(volume.index),
            )
        )
        report = VolumeReport(
            translation_mm=translation_mm,
            rotation_rad=rotation_rad,
            fd_mm=fd_mm,
            dvars_percent=figures.dvars_percent,
            tsnr=figures.tsnr,
            aligned=converged,
            censored=spike or not good,
            residual=residual,
            outlier_slices=outlier_slices,
            alerts=(*([] if placement is None else placement.alerts()), *alerts),
        )
        confounds_6 = self._given_motion(volume) if self._motion_is_given else motion_6
        return voxels_V, report, confounds_6[: self._n_confounds()], placement

    def _given_motion(self, volume: Volume) -> NDArray[np.float64]:
        """As it came; zeros where none did."""
        if self._motion_T6 is not None:
            row_6: NDArray[np.float64] = self._motion_T6[volume.index]
            return row_6
        return np.array(volume.motion_6) if self._brings_motion else np.zeros(6)

    def _in_order(self, given_6: NDArray[np.float64]) -> NDArray[np.float64]:
        """Translations in mm, then rotations in radians; zeros where that is not known."""
        if self._motion_order is None:
            return np.zeros(6)
        return np.roll(given_6, 3) if self._motion_order == "rotations" else given_6

    def _answer(self, run: Run) -> list[TrialBeta]:
        assert self._normaliser is not None
        answers = []
        for trial, stage in run.due():
            answer = run.answer(trial, stage)
            self._learn(trial, answer)
            answers.append(self._with_statistics(run, trial, stage, answer))
        return answers

    def _learn(self, trial: int, answer: Answer) -> None:
        """Take a beta into what others are z-scored by; not one of no volumes, nor from a place that is a guess."""
        assert self._normaliser is not None
        if answer.n_volumes == 0:
            return
        if self._places is None or not self._realigns or self._places.trusted:
            self._normaliser.put(trial, self._seen(trial, answer).beta_V)

    def _seen(self, trial: int, answer: Answer) -> Answer:
        """The answer as far as the run's place lets it be one.

        A voxel that the volumes do not show says nothing: it has the mean of what it is z-scored by. Where the place is
        a guess, the answer is flagged.
        """
        if self._places is None or not self._realigns:
            return answer
        if not self._places.trusted:
            answer = answer._replace(flagged=True)
        uncovered_V = self._places.uncovered_V
        if not uncovered_V.any():
            return answer
        assert self._normaliser is not None
        statistics, _ = self._normaliser.statistics(trial)
        error_V = None if answer.error_V is None else np.where(uncovered_V, statistics.std_V, answer.error_V)
        return answer._replace(beta_V=np.where(uncovered_V, statistics.mean_V, answer.beta_V), error_V=error_V)

    def _with_statistics(self, run: Run, trial: int, stage: Stage, answer: Answer) -> TrialBeta:
        assert self._normaliser is not None
        statistics, source = self._normaliser.statistics(trial)
        answer = self._seen(trial, answer)
        return TrialBeta(
            run=run.number,
            trial=trial,
            stage=stage,
            **answer._asdict(),
            mean_V=statistics.mean_V,
            std_V=statistics.std_V,
            n_statistics=statistics.n,
            normalised_by=source,
        )

    def state(self) -> IngestState:
        """All that the session depends on, between any two calls."""
        arrays: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {
            "options": asdict(self._options),
            "limits": asdict(self._limits),
            "fd_threshold_mm": self._fd_threshold_mm,
            "motion_order": self._motion_order,
            "brings_motion": self._brings_motion,
            "said_followed": self._said_followed,
            "runs": self._runs.copy(),
            "run": None,
            "space": None,
        }
        if self._run is not None:
            run_arrays, meta["run"] = self._run.state()
            arrays |= {f"run.{name}": array for name, array in run_arrays.items()}
        arrays |= {f"clocks.{name}": array for name, array in self._clocks.state().items()}
        if self._motion_T6 is not None:
            arrays["motion_T6"] = self._motion_T6.copy()
        if self._grid is not None:
            arrays["grid.shape"], arrays["grid.affine"] = np.array(self._grid[0]), self._grid[1].copy()
        if self._places is not None:
            arrays |= {f"places.{name}": array for name, array in self._places.state().items()}
        if self._normaliser is not None:
            arrays |= {f"normaliser.{name}": array for name, array in self._normaliser.state().items()}
        if self._space is not None and self._space_is_own:
            reference = self._space.reference
            arrays["space.data"], arrays["space.affine"] = reference.data, reference.affine
            arrays["space.mask"] = self._space.mask_XYZ
            meta["space"] = {"tr_s": reference.tr_s, "run": reference.run, "index": reference.index}
        return IngestState(arrays, meta)

    @classmethod
    def restore(
        cls,
        state: IngestState,
        options: IngestOptions,
        space: Space | None = None,
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
            reference = Volume(data=arrays["space.data"], affine=arrays["space.affine"], **meta["space"])
            session._settle(Space(reference, arrays["space.mask"].astype(np.bool_)))
        session._runs = list(meta["runs"])
        session._motion_order, session._brings_motion = meta["motion_order"], meta["brings_motion"]
        session._said_followed = meta["said_followed"]
        session._clocks.load_state(part(arrays, "clocks."))
        if "motion_T6" in arrays:
            session._motion_T6 = arrays["motion_T6"].astype(np.float64)
        if "grid.shape" in arrays:
            x, y, z = (int(n) for n in arrays["grid.shape"])
            session._grid = ((x, y, z), arrays["grid.affine"].astype(np.float64))
        if session._places is not None:
            session._places.load_state(part(arrays, "places."))
        if session._normaliser is not None:
            session._normaliser.load_state(part(arrays, "normaliser."))
        if meta["run"] is not None:
            session._run = Run.restore(
                options,
                session._space,
                part(arrays, "run."),
                meta["run"],
                limits=session._limits,
                baseline=baseline,
            )
        return session


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    a, b, c = values.tolist()
    return a, b, c
