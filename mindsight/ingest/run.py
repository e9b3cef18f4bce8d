"""One run: its GLM, its quality, which betas are due and which were delivered.

Knows nothing of other runs or of realignment: it is given voxels and motion. T volumes, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.events import RESPONSE_S, in_model_time
from mindsight.glm import Event, StreamingGLM
from mindsight.glm.voxel_course import VoxelCourse
from mindsight.ingest.options import IngestOptions
from mindsight.ingest.outputs import CensoredBy, FlaggedBy
from mindsight.ingest.space import SubjectSpace
from mindsight.ingest.state import part
from mindsight.preprocessing import Quality, QualityFigures
from mindsight.preprocessing.quality.alerts import Alerts
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.preprocessing.quality.rules import Alert, VolumeFigures
from mindsight.preprocessing.quality.spikes import SpikeDetector
from mindsight.stages import Stage

_ROUNDING_S = 1e-6

Lost = CensoredBy | Literal["missing"]
"""Why a volume is not used."""


class RunBeta(NamedTuple):
    """One trial's beta as the run has it, see ``TrialBeta``."""

    beta_V: NDArray[np.float32]
    error_V: NDArray[np.float32] | None
    error: float | None
    n_volumes: int
    flagged: bool
    flagged_by: tuple[FlaggedBy, ...]


class Run:
    """State of one run.

    number, tr_s, n_volumes : as declared; ``n_volumes`` None if unknown
    n_voxels, n_confounds : sizes of what ``take`` is given
    space : where the voxels are; None until it is known
    limits, baseline : of ``Alerts``

    In a fixed basis a trial is finished with its revised beta: the final one is the same.

    Raises BadRequest (``run.length_unknown``) if the options need ``n_volumes``.
    """

    def __init__(
        self,
        number: int,
        tr_s: float,
        n_volumes: int | None,
        options: IngestOptions,
        n_voxels: int,
        n_confounds: int,
        space: SubjectSpace | None = None,
        *,
        limits: QualityLimits | None = None,
        baseline: Baseline | None = None,
    ) -> None:
        if options.mode == "fixed" and n_volumes is None:
            raise BadRequest(
                "expected the number of volumes of a run whose drift basis is fixed, got none",
                code="run.length_unknown",
            )
        self.number = number
        self.tr_s = tr_s
        self.n_volumes = n_volumes
        self.ended = False
        self._options = options
        self._waits_s = options.waits_s(tr_s)
        self._baseline = baseline
        self.n_confounds = n_confounds
        self._glm = _new_glm(options, n_voxels, tr_s, n_volumes, n_confounds, space)
        self._quality = Quality(n_voxels)
        self._spikes = SpikeDetector(n_voxels)
        self._limits = options.limits if limits is None else limits
        self._alerts = Alerts(self._limits, baseline)
        self._declared: list[Event] = []
        self._trials: dict[int, Event] = {}
        self._delivered: set[tuple[int, Stage]] = set()
        self._finished: dict[int, RunBeta] = {}
        self._lost: list[Lost | None] = []
        self._last_voxels_V = np.zeros(n_voxels, np.float32)
        self._last_confounds_C = np.zeros(n_confounds)

    @property
    def next_index(self) -> int:
        """Index of the volume that comes next."""
        return len(self._lost)

    @property
    def n_good(self) -> int:
        """Volumes that the betas are estimated from."""
        return self._lost.count(None)

    def add_event(self, event: Event) -> None:
        """An event before, in or after the measured time, see ``mindsight.events.declare``.

        Raises BadRequest (``trial.duplicate``).
        """
        if event.trial is not None and event.trial in self._trials:
            raise BadRequest(
                f"expected a new trial, got trial {event.trial} a second time",
                code="trial.duplicate",
                trial=event.trial,
            )
        options = self._options
        duration_s = event.duration_s if options.event_duration_s is None else options.event_duration_s
        times_s = in_model_time(event.onset_s + options.event_lag_s, duration_s)
        if times_s is not None:
            self._glm.add_event(Event(*times_s, event.trial))
        self._declared.append(event)
        if event.trial is not None:
            self._trials[event.trial] = event

    def resized(self, n_voxels: int, n_confounds: int) -> Run:
        """The same run with the voxels and confounds it turns out to have; no volume may have been taken."""
        assert self.n_good == 0
        run = Run(
            self.number,
            self.tr_s,
            self.n_volumes,
            self._options,
            n_voxels,
            n_confounds,
            limits=self._limits,
            baseline=self._baseline,
        )
        for event in self._declared:
            run.add_event(event)
        for _ in range(self.next_index):
            run.skip()
        return run

    def measure_quality(
        self, voxels_V: NDArray[np.float32], motion_6: NDArray[np.float64], broken: bool
    ) -> QualityFigures:
        """Quality figures of the next volume, which is ``broken`` if it is a spike or has no pose."""
        return self._quality.push(voxels_V, motion_6, broken)

    def detect_spike(self, voxels_V: NDArray[np.float32], good: bool) -> bool:
        """Whether the next volume is a spike; ``good``: nothing else is wrong with it. Call once per volume."""
        return self._spikes.push(voxels_V, good)

    def update_alerts(self, figures: VolumeFigures) -> list[Alert]:
        """Alerts that begin or end with the next volume."""
        return self._alerts.push(figures)

    def set_limits(self, limits: QualityLimits) -> None:
        """Apply these from the next volume on."""
        self._limits = limits
        self._alerts.set_limits(limits)

    def end_alerts(self) -> list[Alert]:
        """End the conditions that still hold, with an alert each."""
        return self._alerts.finish()

    def trials_at(self, index: int) -> list[int]:
        """The trials whose response includes a volume."""
        at_s = index * self.tr_s
        return [
            trial
            for trial, event in self._trials.items()
            if event.onset_s <= at_s <= event.onset_s + event.duration_s + RESPONSE_S
        ]

    def take(
        self, voxels_V: NDArray[np.float32], confounds_C: NDArray[np.float64], censored_by: CensoredBy | None
    ) -> None:
        """The next volume's voxels."""
        self._push(voxels_V, confounds_C, censored_by)
        self._last_voxels_V, self._last_confounds_C = voxels_V, confounds_C

    def skip(self) -> None:
        """The next volume is missing: the last one is used instead, censored."""
        self._push(self._last_voxels_V, self._last_confounds_C, "missing")

    def _push(self, voxels_V: NDArray[np.float32], confounds_C: NDArray[np.float64], lost: Lost | None) -> None:
        self._glm.push(voxels_V, confounds_C, lost is not None)
        self._lost.append(lost)

    def take_due(self) -> Iterator[tuple[int, Stage]]:
        """Betas whose time has come, by trial and stage; each is marked as delivered when it is yielded."""
        started = self._glm.started
        for trial, event in self._trials.items():
            for stage, wait_s in self._waits_s.items():
                if (trial, stage) in self._delivered or trial not in started:
                    continue
                if stage == "final" and not self.is_measured(trial):
                    continue
                if self._reaches(event.onset_s + wait_s):
                    self._delivered.add((trial, stage))
                    yield trial, stage

    @property
    def trials(self) -> tuple[int, ...]:
        """The trials that have a beta: they have started and part of their response was measured."""
        return tuple(trial for trial in self._glm.started if self.is_measured(trial))

    @property
    def unmeasured_trials(self) -> tuple[int, ...]:
        """The trials without a beta."""
        measured = set(self.trials)
        return tuple(trial for trial in self._trials if trial not in measured)

    @property
    def n_events(self) -> int:
        """Events that were declared, including trials."""
        return len(self._declared)

    def beta(self, trial: int, stage: Stage) -> RunBeta:
        """The trial's beta from the volumes so far, by its stage's estimator; that of a finished trial stays."""
        if trial in self._finished:
            return self._finished[trial]
        fraction = self._options.ridge_fraction
        if stage != "fast" and fraction is not None:
            (beta_V,) = self._glm.ridge_betas([trial], fraction)
            beta = self._finish(trial, beta_V)
        elif stage == "final" or self._finishes(stage):
            beta = self._finish(trial, *self._glm.estimate(trial))
        else:
            beta = self._finish(trial, self._glm.beta(trial), error=self._glm.typical_error(trial))
        if self._finishes(stage):
            self._finished[trial] = beta
        return beta

    def estimates(self, stage: Stage) -> dict[int, NDArray[np.float32]]:
        """(V,) by trial: what the stage's estimator gives, from the volumes so far, for every trial whose response has
        risen. These share the errors of the drifts and confounds of one fit, which betas of other times do not."""
        trials = [trial for trial in self.trials if self.has_risen(trial)]
        fraction = self._options.ridge_fraction
        if not trials:
            return {}
        if stage != "fast" and fraction is not None:
            betas_KV = self._glm.ridge_betas(trials, fraction)
        else:
            betas_KV = np.stack([estimate.beta_V for estimate in self._glm.estimates(trials)])
        return dict(zip(trials, betas_KV.astype(np.float32), strict=True))

    def final_betas(self) -> dict[int, RunBeta]:
        """By trial, every final beta that was not delivered yet."""
        wanted = [trial for trial in self.trials if (trial, "final") not in self._delivered]
        unfinished = [trial for trial in wanted if trial not in self._finished]
        fraction = self._options.ridge_fraction
        if fraction is None:
            estimates = zip(unfinished, self._glm.estimates(unfinished), strict=True)
            found = {trial: self._finish(trial, *estimate) for trial, estimate in estimates}
        else:
            betas_KV = self._glm.ridge_betas(unfinished, fraction) if unfinished else ()
            found = {trial: self._finish(trial, beta_V) for trial, beta_V in zip(unfinished, betas_KV, strict=True)}
        return {trial: found[trial] if trial in found else self._finished[trial] for trial in wanted}

    def _finish(
        self,
        trial: int,
        beta_V: NDArray[np.float64],
        error_V: NDArray[np.float64] | None = None,
        error: float | None = None,
    ) -> RunBeta:
        """With the number of volumes, the typical error and the flag, as of now."""
        if error_V is not None:
            error = float(np.median(error_V))
        flagged_by = self.disturbed_by(trial)
        return RunBeta(
            beta_V.astype(np.float32),
            None if error_V is None else error_V.astype(np.float32),
            # infinite while no degrees of freedom are left to estimate the noise
            error if error is not None and np.isfinite(error) else None,
            self.n_good,
            bool(flagged_by),
            flagged_by,
        )

    def _finishes(self, stage: Stage) -> bool:
        return stage == "revised" and self._options.mode == "fixed"

    def has_risen(self, trial: int) -> bool:
        """Whether the volumes reach the time of the trial's fast beta."""
        return self._reaches(self._trials[trial].onset_s + self._waits_s["fast"])

    def disturbed_by(self, trial: int) -> tuple[FlaggedBy, ...]:
        """What the trial's response lacks: volumes, each reason once; or its beginning or rise ("early")."""
        event = self._trials[trial]
        start_s, end_s = event.onset_s, event.onset_s + event.duration_s + RESPONSE_S
        lost = {why for i, why in enumerate(self._lost) if why is not None and start_s <= i * self.tr_s <= end_s}
        early = start_s <= -self.tr_s or not self.has_risen(trial)
        return (*sorted(lost), "early") if early else tuple(sorted(lost))

    def is_measured(self, trial: int) -> bool:
        """Whether a volume of the trial's response was measured. A censored volume was, and flags the beta."""
        event = self._trials[trial]
        first = max(math.floor(event.onset_s / self.tr_s) + 1, 0)  # a response is zero at the onset itself
        last = math.floor((event.onset_s + event.duration_s + RESPONSE_S) / self.tr_s + _ROUNDING_S)
        return not all(lost == "missing" for lost in self._lost[first : max(last + 1, first)])

    def series(self) -> NDArray[np.float32]:
        """(T, V) voxels so far."""
        return self._glm.series()

    def course(self, voxel: int, trial: int | None) -> tuple[VoxelCourse, list[bool]]:
        """One voxel's data and fit, and which volumes were excluded. A trial that has not started is not modelled."""
        modelled = trial if trial in self._glm.started else None
        return self._glm.course(voxel, modelled), [lost is not None for lost in self._lost]

    def _reaches(self, time_s: float) -> bool:
        return self.next_index * self.tr_s >= time_s - _ROUNDING_S

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, NDArray[Any]] = {
            **{f"glm.{name}": array for name, array in self._glm.state().items()},
            **{f"quality.{name}": array for name, array in self._quality.state().items()},
            **{f"spikes.{name}": array for name, array in self._spikes.state().items()},
            **{f"alerts.{name}": array for name, array in self._alerts.state().items()},
            "last_voxels_V": self._last_voxels_V.copy(),
            "finished_KV": np.array([beta.beta_V for beta in self._finished.values()], np.float32),
            "finished_error_KV": np.array(
                [beta.error_V for beta in self._finished.values() if beta.error_V is not None], np.float32
            ),
            "last_confounds_C": self._last_confounds_C.copy(),
        }
        meta = {
            "number": self.number,
            "tr_s": self.tr_s,
            "n_volumes": self.n_volumes,
            "ended": self.ended,
            "lost": self._lost.copy(),
            "n_confounds": self.n_confounds,
            "events": [[event.onset_s, event.duration_s, event.trial] for event in self._declared],
            "delivered": sorted([trial, stage] for trial, stage in self._delivered),
            "finished": [
                [trial, beta.error, beta.n_volumes, beta.flagged, beta.flagged_by]
                for trial, beta in self._finished.items()
            ],
        }
        return arrays, meta

    @classmethod
    def restore(
        cls,
        options: IngestOptions,
        space: SubjectSpace | None,
        arrays: Mapping[str, NDArray[Any]],
        meta: Mapping[str, Any],
        *,
        limits: QualityLimits,
        baseline: Baseline | None,
    ) -> Run:
        last_voxels_V = arrays["last_voxels_V"].astype(np.float32)
        run = cls(
            meta["number"],
            meta["tr_s"],
            meta["n_volumes"],
            options,
            last_voxels_V.size,
            meta["n_confounds"],
            space,
            limits=limits,
            baseline=baseline,
        )
        run.ended = meta["ended"]
        run._glm.load_state(part(arrays, "glm."))
        run._quality.load_state(part(arrays, "quality."))
        run._spikes.load_state(part(arrays, "spikes."))
        run._alerts.load_state(part(arrays, "alerts."))
        run._declared = [Event(*event) for event in meta["events"]]
        run._trials = {event.trial: event for event in run._declared if event.trial is not None}
        run._delivered = {(trial, stage) for trial, stage in meta["delivered"]}
        errors = arrays["finished_error_KV"].astype(np.float32) if arrays["finished_error_KV"].size else None
        run._finished = {
            trial: RunBeta(
                arrays["finished_KV"][k].astype(np.float32),
                None if errors is None else errors[k],
                error,
                n_volumes,
                flagged,
                tuple(flagged_by),
            )
            for k, (trial, error, n_volumes, flagged, flagged_by) in enumerate(meta["finished"])
        }
        run._lost = list(meta["lost"])
        run._last_voxels_V = last_voxels_V
        run._last_confounds_C = arrays["last_confounds_C"].astype(np.float64)
        return run


def _new_glm(
    options: IngestOptions,
    n_voxels: int,
    tr_s: float,
    n_volumes: int | None,
    n_confounds: int,
    space: SubjectSpace | None,
) -> StreamingGLM:
    return StreamingGLM(
        n_voxels,
        tr_s,
        options.hrf,
        options.high_pass_hz,
        options.noise,
        n_confounds,
        n_planned=n_volumes if options.mode == "fixed" else None,
        hrf_V=None if space is None else space.hrf_V,
        lag_V=None if space is None else space.lag_V,
        noise_pool_V=None if space is None else space.noise_pool_V,
        n_components=0 if space is None or space.noise_pool_V is None else options.n_noise_components,
    )
