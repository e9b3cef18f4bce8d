"""One run on its way through ingest: its GLM, its quality, which answers are due and which were given.

Knows nothing of other runs or of realignment: voxels and motion come in. T volumes, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.events import RESPONSE_S, in_model_time
from mindsight.glm import Event, StreamingGLM
from mindsight.ingest.records import IngestOptions, Space
from mindsight.preprocessing import Quality, QualityFigures
from mindsight.preprocessing.quality.alerts import Alert, Alerts, Baseline, QualityLimits, VolumeFigures
from mindsight.preprocessing.quality.spikes import SpikeDetector
from mindsight.stages import Stage

_ROUNDING_S = 1e-6


class Answer(NamedTuple):
    """See ``TrialBeta``."""

    beta_V: NDArray[np.float32]
    error_V: NDArray[np.float32] | None
    error: float | None
    n_volumes: int
    flagged: bool


class Run:
    """State of one run.

    number, tr_s, n_volumes : as declared; ``n_volumes`` None where it is not known
    n_voxels, n_confounds : of what ``take`` gets
    space : where the voxels are; None as long as nobody knows
    limits, baseline : of ``Alerts``

    In a fixed basis a trial is finished when its revised answer is given: the final one is the same.

    Raises BadRequest (``run.length_unknown``) where the options need ``n_volumes``.
    """

    def __init__(
        self,
        number: int,
        tr_s: float,
        n_volumes: int | None,
        options: IngestOptions,
        n_voxels: int,
        n_confounds: int,
        space: Space | None = None,
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
        self._n_confounds = n_confounds
        self._glm = StreamingGLM(
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
        self._quality = Quality(n_voxels)
        self._spikes = SpikeDetector(n_voxels)
        self._limits = options.limits if limits is None else limits
        self._alerts = Alerts(self._limits, baseline)
        self._declared: list[Event] = []
        self._trials: dict[int, Event] = {}
        self._answered: set[tuple[int, Stage]] = set()
        self._finished: dict[int, Answer] = {}
        self._censored: list[bool] = []
        self._missing: list[bool] = []
        self._last_voxels_V = np.zeros(n_voxels, np.float32)
        self._last_confounds_C = np.zeros(n_confounds)

    @property
    def next_index(self) -> int:
        """Index of the volume that comes next."""
        return len(self._censored)

    @property
    def n_good(self) -> int:
        """Volumes that take part in the betas."""
        return len(self._censored) - sum(self._censored)

    def add_event(self, event: Event) -> None:
        """An event before, in or after the measured time, see ``mindsight.events.declare``.

        Raises BadRequest (``trial.duplicate``).
        """
        if event.trial is not None and event.trial in self._trials:
            raise BadRequest(
                f"expected a trial that is not there yet, got trial {event.trial} a second time",
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

    def judge(self, voxels_V: NDArray[np.float32], motion_6: NDArray[np.float64], broken: bool) -> QualityFigures:
        """Quality of the next volume."""
        return self._quality.push(voxels_V, motion_6, broken)

    def is_broken(self, voxels_V: NDArray[np.float32], good: bool) -> bool:
        """Whether the next volume is a spike; ``good``: nothing else is wrong with it. Asked once per volume."""
        return self._spikes.push(voxels_V, good)

    def alert(self, figures: VolumeFigures) -> list[Alert]:
        """What there is to say about the run after this volume."""
        return self._alerts.push(figures)

    def set_limits(self, limits: QualityLimits) -> None:
        """From the next volume on."""
        self._limits = limits
        self._alerts.set_limits(limits)

    def last_alerts(self) -> list[Alert]:
        """What was said of the run and has no end yet, ended with it."""
        return self._alerts.finish()

    def trials_at(self, index: int) -> list[int]:
        """The trials in whose response a volume lies."""
        at_s = index * self.tr_s
        return [
            trial
            for trial, event in self._trials.items()
            if event.onset_s <= at_s <= event.onset_s + event.duration_s + RESPONSE_S
        ]

    def take(self, voxels_V: NDArray[np.float32], confounds_C: NDArray[np.float64], censored: bool) -> None:
        """The next volume's voxels."""
        self._push(voxels_V, confounds_C, censored, missing=False)
        self._last_voxels_V, self._last_confounds_C = voxels_V, confounds_C

    def skip(self) -> None:
        """The next volume is missing: the last one stands in for it, and counts for nothing."""
        self._push(self._last_voxels_V, self._last_confounds_C, censored=True, missing=True)

    def _push(
        self, voxels_V: NDArray[np.float32], confounds_C: NDArray[np.float64], censored: bool, missing: bool
    ) -> None:
        self._glm.push(voxels_V, confounds_C, censored)
        self._censored.append(censored)
        self._missing.append(missing)

    def due(self) -> Iterator[tuple[int, Stage]]:
        """Answers whose time has come and that were not given yet, by trial; each is given by being asked for."""
        started = self._glm.started
        for trial, event in self._trials.items():
            for stage, wait_s in self._waits_s.items():
                if (trial, stage) in self._answered or trial not in started:
                    continue
                if stage == "final" and not self.is_seen(trial):
                    continue
                if self._reaches(event.onset_s + wait_s):
                    self._answered.add((trial, stage))
                    yield trial, stage

    @property
    def trials(self) -> tuple[int, ...]:
        """The trials that have started and of whose response something was measured: those that have a beta."""
        return tuple(trial for trial in self._glm.started if self.is_seen(trial))

    @property
    def unseen(self) -> tuple[int, ...]:
        """The other trials."""
        seen = set(self.trials)
        return tuple(trial for trial in self._trials if trial not in seen)

    @property
    def n_events(self) -> int:
        """Events that were declared, trials among them."""
        return len(self._declared)

    def answer(self, trial: int, stage: Stage) -> Answer:
        """The response on the data so far, by the estimator of such an answer; of a finished trial, as it was."""
        if trial in self._finished:
            return self._finished[trial]
        fraction = self._options.ridge_fraction
        if stage != "fast" and fraction is not None:
            (beta_V,) = self._glm.ridge_betas([trial], fraction)
            answer = self._stamped(trial, beta_V)
        elif stage == "final" or self._finishes(stage):
            answer = self._stamped(trial, *self._glm.estimate(trial))
        else:
            answer = self._stamped(trial, self._glm.beta(trial), error=self._glm.typical_error(trial))
        if self._finishes(stage):
            self._finished[trial] = answer
        return answer

    def finals(self) -> dict[int, Answer]:
        """The final answer of every trial that was not given it yet."""
        asked = [trial for trial in self.trials if (trial, "final") not in self._answered]
        moving = [trial for trial in asked if trial not in self._finished]
        fraction = self._options.ridge_fraction
        if fraction is None:
            estimates = zip(moving, self._glm.estimates(moving), strict=True)
            found = {trial: self._stamped(trial, *estimate) for trial, estimate in estimates}
        else:
            betas_KV = self._glm.ridge_betas(moving, fraction) if moving else ()
            found = {trial: self._stamped(trial, beta_V) for trial, beta_V in zip(moving, betas_KV, strict=True)}
        return {trial: found[trial] if trial in found else self._finished[trial] for trial in asked}

    def _stamped(
        self,
        trial: int,
        beta_V: NDArray[np.float64],
        error_V: NDArray[np.float64] | None = None,
        error: float | None = None,
    ) -> Answer:
        """With what else is to be said of it now."""
        if error_V is not None:
            error = float(np.median(error_V))
        return Answer(
            beta_V.astype(np.float32),
            None if error_V is None else error_V.astype(np.float32),
            # infinite as long as no volumes are left over to judge the noise by
            error if error is not None and np.isfinite(error) else None,
            self.n_good,
            self.is_disturbed(trial) or not self.has_risen(trial),
        )

    def _finishes(self, stage: Stage) -> bool:
        return stage == "revised" and self._options.mode == "fixed"

    def has_risen(self, trial: int) -> bool:
        """Whether the volumes reach the time of the trial's first answer."""
        return self._reaches(self._trials[trial].onset_s + self._waits_s["fast"])

    def is_disturbed(self, trial: int) -> bool:
        """Whether a volume is wanting in the response to the trial: missing, censored, or before the run's first."""
        event = self._trials[trial]
        start_s, end_s = event.onset_s, event.onset_s + event.duration_s + RESPONSE_S
        if start_s <= -self.tr_s:
            return True
        return any(censored and start_s <= i * self.tr_s <= end_s for i, censored in enumerate(self._censored))

    def is_seen(self, trial: int) -> bool:
        """Whether a volume of the response to the trial was measured. One that is censored is, and flags the answer."""
        event = self._trials[trial]
        first = max(math.floor(event.onset_s / self.tr_s) + 1, 0)  # nothing is seen at the onset itself
        last = math.floor((event.onset_s + event.duration_s + RESPONSE_S) / self.tr_s + _ROUNDING_S)
        return not all(self._missing[first : max(last + 1, first)])

    def series(self) -> NDArray[np.float32]:
        """(T, V) voxels so far."""
        return self._glm.series()

    def _reaches(self, time_s: float) -> bool:
        return self.next_index * self.tr_s >= time_s - _ROUNDING_S

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, NDArray[Any]] = {
            **{f"glm.{name}": array for name, array in self._glm.state().items()},
            **{f"quality.{name}": array for name, array in self._quality.state().items()},
            **{f"spikes.{name}": array for name, array in self._spikes.state().items()},
            **{f"alerts.{name}": array for name, array in self._alerts.state().items()},
            "last_voxels_V": self._last_voxels_V.copy(),
            "finished_KV": np.array([answer.beta_V for answer in self._finished.values()], np.float32),
            "finished_error_KV": np.array(
                [answer.error_V for answer in self._finished.values() if answer.error_V is not None], np.float32
            ),
            "last_confounds_C": self._last_confounds_C.copy(),
        }
        meta = {
            "number": self.number,
            "tr_s": self.tr_s,
            "n_volumes": self.n_volumes,
            "ended": self.ended,
            "censored": self._censored.copy(),
            "missing": self._missing.copy(),
            "n_confounds": self._n_confounds,
            "events": [[event.onset_s, event.duration_s, event.trial] for event in self._declared],
            "answered": sorted([trial, stage] for trial, stage in self._answered),
            "finished": [
                [trial, answer.error, answer.n_volumes, answer.flagged] for trial, answer in self._finished.items()
            ],
        }
        return arrays, meta

    @classmethod
    def restore(
        cls,
        options: IngestOptions,
        space: Space | None,
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
        run._answered = {(trial, stage) for trial, stage in meta["answered"]}
        errors = arrays["finished_error_KV"].astype(np.float32) if arrays["finished_error_KV"].size else None
        run._finished = {
            trial: Answer(arrays["finished_KV"][k].astype(np.float32), None if errors is None else errors[k], *rest)
            for k, (trial, *rest) in enumerate(meta["finished"])
        }
        run._censored, run._missing = list(meta["censored"]), list(meta["missing"])
        run._last_voxels_V = last_voxels_V
        run._last_confounds_C = arrays["last_confounds_C"].astype(np.float64)
        return run


def part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
