"""Rules that say, during a run, that its quality is not good enough, and what a person can do about it.

Knows nothing of volumes, files or time: figures of one volume in, sentences out. It measures nothing; the figures are
quality.py's and the realigner's.

A condition is said once when it begins and once when it is over. It is over after ``quiet_volumes`` volumes clear of
the limit by a margin; each time it comes back in the same run, twice as many are needed. So a condition that comes and
goes through N volumes is said at most 2 log2(N / quiet_volumes + 1) + 1 times: there is no storm of alerts.

References: Power et al., NeuroImage 59(3), 2012, and Esteban et al. (fMRIPrep), Nature Methods 16, 2019 (FD 0.5 mm,
DVARS 1.5 times the usual); Parkes et al., NeuroImage 171, 2018 (a run with more than a fifth of its volumes in motion
is left out); Friedman and Glover, J Magn Reson Imaging 23, 2006 (drift of the mean signal as a figure of the scanner).
Other defaults are choices, said where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest

Level = Literal["info", "warning", "error"]
MAX_NAMED_TRIALS = 5
MAX_KEPT_TRIALS = 1000


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What is too much. None: this is never said.

    fd_mm : framewise displacement of one volume (Power 2012)
    displacement_mm : of the head from the reference, see ``rigid``; about a voxel and a half of common EPI (a choice)
    censored_share : share of the last ``window_volumes`` that take no part in the betas (Parkes 2018)
    dvars_ratio : DVARS of one volume against the run's median (fMRIPrep's standardised DVARS)
    tsnr_ratio : tSNR of the run so far, against the calibration's; below is bad (a choice)
    tsnr_start_ratio : the same, against what it was once the run had settled (a choice)
    drift_percent : mean signal against the run's start, either way (scanners hold 1 % on a phantom; a choice)
    signal_percent : mean signal against the calibration's, either way (a choice)
    residual : share of a volume's variance that the reference leaves unexplained (a choice)
    outlier_share : share of the slices of the last ``window_volumes`` that do not fit (a choice: single ones happen)
    spikes, unplaced : more than so many spikes, or volumes without a pose, among the last ``window_volumes``
    window_volumes : how far back shares and counts look
    settle_volumes : volumes before the run's own level is known
    quiet_volumes : volumes without a condition before it is said to be over
    """

    fd_mm: float | None = 0.5
    displacement_mm: float | None = 3.0
    censored_share: float | None = 0.2
    dvars_ratio: float | None = 1.5
    tsnr_ratio: float | None = 0.7
    tsnr_start_ratio: float | None = 0.7
    drift_percent: float | None = 3.0
    signal_percent: float | None = 20.0
    residual: float | None = 0.2
    outlier_share: float | None = 0.01
    spikes: float | None = 0
    unplaced: float | None = 0
    window_volumes: int = 30
    settle_volumes: int = 10
    quiet_volumes: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            lowest = 1 if field.name.endswith("_volumes") else 0
            if value is not None and not lowest <= value < float("inf"):
                raise BadRequest(
                    f"expected {field.name} to be a number from {lowest} on, got {value!r}", code="quality.limit"
                )


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the calibration's runs were like, in the same mask. None where it was not measured.

    mean_signal : mean over volumes and voxels, in the volumes' units. tsnr : as ``QualityFigures`` has it.
    """

    mean_signal: float | None = None
    tsnr: float | None = None


def measure_signal(series_TV: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, V) mean and temporal signal-to-noise of each voxel over these volumes of a run; 0 where there is no noise."""
    mean_V = series_TV.mean(axis=0, dtype=np.float64)
    sd_V = series_TV.std(axis=0, ddof=1, dtype=np.float64)
    tsnr_V = np.divide(mean_V, sd_V, out=np.zeros_like(mean_V), where=(sd_V > 0.0) & (mean_V > 0.0))
    return np.stack([mean_V, tsnr_V]).astype(np.float32)


def baseline_of(signal_R2V: Sequence[NDArray[np.float32]]) -> Baseline:
    """Of the calibration's runs, ``measure_signal`` of each: the median over the runs."""
    signals = [float(mean_V.mean(dtype=np.float64)) for mean_V, _ in signal_R2V]
    ratios = [float(np.median(tsnr_V[tsnr_V > 0.0])) for _, tsnr_V in signal_R2V if (tsnr_V > 0.0).any()]
    return Baseline(float(np.median(signals)), float(np.median(ratios)) if ratios else None)


@dataclass(frozen=True, slots=True)
class VolumeFigures:
    """One volume's figures, None where they are unknown.

    fd_mm, dvars_percent, tsnr : of ``QualityFigures``
    displacement_mm : of the head from the reference, see ``rigid.displacement_mm``
    mean_signal : mean over the voxels, in the volumes' units
    residual, unplaced : of ``Aligned`` (``unplaced`` is not ``converged``)
    outlier_share : ``Aligned.outlier_slices`` as a share of the volume's slices
    spike : the signal jumped and came back, without motion
    censored : the volume takes no part in the betas
    trials : those in whose response the volume lies
    """

    fd_mm: float | None = None
    dvars_percent: float | None = None
    tsnr: float | None = None
    displacement_mm: float | None = None
    mean_signal: float | None = None
    residual: float | None = None
    outlier_share: float = 0.0
    unplaced: bool = False
    spike: bool = False
    censored: bool = False
    trials: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """code : stable; with ``.over`` at its end for the end of a condition. text : for a person, with what to do."""

    code: str
    text: str
    level: Level


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition.

    figure : what is judged, and the limit's name in ``QualityLimits``
    begins : so many of the last volumes must be beyond the limit
    margin : the limit times this is where quiet begins; under 1 where much is bad, over 1 where little is bad
    text, over : with {value}, {limit} and {window} filled in; {worst} in ``over``
    """

    code: str
    figure: str
    level: Level
    begins: int
    margin: float
    text: str
    over: str

    def is_beyond(self, value: float, limit: float) -> bool:
        return value < limit if self.margin > 1.0 else value > limit


RULES = (
    Rule(
        *("quality.motion", "fd_mm", "warning", 1, 0.8),
        "The head moved {value:.1f} mm from one volume to the next (limit {limit:g} mm). Ask the participant to lie"
        " still.",
        "The head lies still again; it moved up to {worst:.1f} mm from volume to volume.",
    ),
    Rule(
        *("quality.motion_often", "censored_share", "error", 1, 0.5),
        "{value:.0%} of the last {window} volumes cannot be used (limit {limit:.0%}). Pause, talk to the participant,"
        " and consider repeating the run.",
        "Most volumes can be used again; at worst {worst:.0%} of {window} could not.",
    ),
    Rule(
        *("quality.position", "displacement_mm", "warning", 3, 0.9),
        "The head lies {value:.1f} mm from the reference (limit {limit:g} mm). Check after this run that all of the"
        " brain is still in the picture; if not, place it anew.",
        "The head is near the reference again; it was up to {worst:.1f} mm away.",
    ),
    Rule(
        *("quality.no_pose", "unplaced", "error", 1, 0.8),
        "The head's position cannot be found in the volumes. Check that the series is the right one and that the"
        " participant is still in the coil.",
        "The head's position is found again.",
    ),
    Rule(
        *("quality.fit", "residual", "warning", 3, 0.9),
        "The volumes no longer look like the reference: {value:.0%} of a volume is unexplained (limit {limit:.0%})."
        " Check coil and sequence; between runs, take a new reference.",
        "The volumes look like the reference again; at worst {worst:.0%} was unexplained.",
    ),
    Rule(
        *("quality.slices", "outlier_share", "warning", 1, 0.8),
        "{value:.1%} of the slices of the last {window} volumes do not fit the others (limit {limit:.1%}). Ask the"
        " participant to lie still; if it goes on, the scanner needs a look: coil, cables, gradients.",
        "The slices fit again; at worst {worst:.1%} did not.",
    ),
    Rule(
        *("quality.spike", "spikes", "warning", 1, 0.8),
        "The signal spiked without motion ({value:.0f} in the last {window} volumes). Look for something loose or"
        " switching in the room; the scanner may need service.",
        "No more spikes.",
    ),
    Rule(
        *("quality.dvars", "dvars_ratio", "warning", 1, 0.85),
        "The signal changed {value:.1f} times as much as usual from one volume to the next (limit {limit:g}). Ask the"
        " participant to lie still and not to swallow or talk.",
        "The signal changes as usual again; at worst {worst:.1f} times as much.",
    ),
    Rule(
        *("quality.tsnr_calibration", "tsnr_ratio", "warning", 5, 1.1),
        "The signal is noisier than at calibration: tSNR is {value:.0%} of it (limit {limit:.0%}). Check coil and"
        " sequence; answers will be less certain.",
        "The signal is about as clean as at calibration again.",
    ),
    Rule(
        *("quality.tsnr", "tsnr_start_ratio", "warning", 5, 1.1),
        "The signal became noisier: tSNR is {value:.0%} of the run's start (limit {limit:.0%}). Ask the participant to"
        " lie still; if it stays, end the run.",
        "The signal is about as clean as at the run's start again.",
    ),
    Rule(
        *("quality.drift", "drift_percent", "warning", 5, 0.8),
        "The mean signal drifted {value:.1f} % from the run's start (limit {limit:g} %). A slow head movement or the"
        " scanner's warming; if it grows, end the run and start another.",
        "The mean signal is near the run's start again; it was up to {worst:.1f} % away.",
    ),
    Rule(
        *("quality.signal", "signal_percent", "error", 5, 0.8),
        "The mean signal is {value:.0f} % away from the calibration's (limit {limit:g} %). Check that coil, sequence"
        " and the image scaling are those of the calibration.",
        "The mean signal is near the calibration's again.",
    ),
)
"""All that is ever said. A rule's order is its number in the state."""


class Alerts:
    """What is to be said of one run, volume by volume."""

    def __init__(self, limits: QualityLimits | None = None, baseline: Baseline | None = None) -> None:
        self._limits = limits or QualityLimits()
        self._baseline = baseline or Baseline()
        n_rules = len(RULES)
        self._counts_3T: list[tuple[int, int, int]] = []  # censored, spikes, unplaced; of the window
        self._slices_T: list[float] = []
        self._dvars_T: list[float] = []
        self._start_signal_T: list[float] = []
        self._n_volumes = 0
        self._start_tsnr = np.nan
        self._beyond_R = np.zeros(n_rules, np.int64)  # volumes beyond the limit in a row, before it is said
        self._open_R = np.zeros(n_rules, np.bool_)
        self._quiet_R = np.zeros(n_rules, np.int64)
        self._episodes_R = np.zeros(n_rules, np.int64)
        self._worst_R = np.zeros(n_rules)
        self._trials: list[list[int]] = [[] for _ in RULES]

    def push(self, figures: VolumeFigures) -> list[Alert]:
        """What is to be said now that the next volume has these figures; most often nothing."""
        values = self._derive(figures)
        said: list[Alert] = []
        for r, rule in enumerate(RULES):
            limit, value = getattr(self._limits, rule.figure), values[rule.figure]
            if limit is None:
                if self._open_R[r]:  # switched off during the run
                    self._open_R[r] = False
                    said.append(self._over(r, rule))
                continue
            if value is not None and np.isfinite(value):
                said += self._judge(r, rule, value, limit, figures)
        return said

    def set_limits(self, limits: QualityLimits) -> None:
        """Judge by these from the next volume on. What is beyond the old ones and not the new ends when it is quiet."""
        self._limits = limits

    def finish(self) -> list[Alert]:
        """The run is over, and so is what was said of it."""
        said = [self._over(r, rule) for r, rule in enumerate(RULES) if self._open_R[r]]
        self._open_R[:] = False
        return said

    def _judge(self, r: int, rule: Rule, value: float, limit: float, figures: VolumeFigures) -> list[Alert]:
        beyond = rule.is_beyond(value, limit)
        self._beyond_R[r] = self._beyond_R[r] + 1 if beyond else 0
        if not self._open_R[r]:
            if self._beyond_R[r] < rule.begins:
                return []
            self._open_R[r], self._quiet_R[r], self._worst_R[r] = True, 0, value
            self._episodes_R[r] += 1
            self._trials[r] = []
            self._note_trials(r, figures)
            text = rule.text.format(value=value, limit=limit, window=self._limits.window_volumes)
            return [Alert(rule.code, text + _flagged(self._trials[r]), rule.level)]
        if beyond or rule.is_beyond(value, limit * rule.margin):
            self._quiet_R[r] = 0
            worse = min if rule.margin > 1.0 else max
            self._worst_R[r] = worse(float(self._worst_R[r]), value)
            self._note_trials(r, figures)
            return []
        self._quiet_R[r] += 1
        if self._quiet_R[r] < self._limits.quiet_volumes * 2 ** (int(self._episodes_R[r]) - 1):
            return []
        self._open_R[r] = False
        return [self._over(r, rule)]

    def _over(self, r: int, rule: Rule) -> Alert:
        text = rule.over.format(worst=float(self._worst_R[r]), window=self._limits.window_volumes)
        return Alert(f"{rule.code}.over", text + _flagged(self._trials[r]), "info")

    def _note_trials(self, r: int, figures: VolumeFigures) -> None:
        """A trial is flagged where a censored volume lies in its response."""
        known = self._trials[r]
        if figures.censored and len(known) < MAX_KEPT_TRIALS:
            known += [trial for trial in figures.trials if trial not in known]

    def _derive(self, figures: VolumeFigures) -> dict[str, float | None]:
        """What the rules judge, by name; takes the volume into the run's history."""
        limits, baseline = self._limits, self._baseline
        self._n_volumes += 1
        self._counts_3T.append((int(figures.censored), int(figures.spike), int(figures.unplaced)))
        self._slices_T.append(figures.outlier_share)
        del self._counts_3T[: -limits.window_volumes], self._slices_T[: -limits.window_volumes]
        censored, spikes, unplaced = (sum(column) for column in zip(*self._counts_3T, strict=True))
        signal, tsnr = figures.mean_signal, figures.tsnr
        settled = self._n_volumes > limits.settle_volumes
        if signal is not None and not settled:
            self._start_signal_T.append(signal)
        long_enough = tsnr is not None and self._n_volumes >= 3 * limits.settle_volumes
        if long_enough and np.isnan(self._start_tsnr):
            self._start_tsnr = float(tsnr or 0.0)
        start_signal = float(np.median(self._start_signal_T)) if settled and self._start_signal_T else None
        return {
            "fd_mm": figures.fd_mm,
            "displacement_mm": figures.displacement_mm,
            "censored_share": censored / limits.window_volumes,
            "dvars_ratio": self._dvars_ratio(figures.dvars_percent),
            "tsnr_ratio": _ratio(tsnr, baseline.tsnr) if long_enough else None,
            "tsnr_start_ratio": _ratio(tsnr, self._start_tsnr) if long_enough else None,
            "drift_percent": None if figures.censored else _away_percent(signal, start_signal),
            "signal_percent": None if figures.censored else _away_percent(signal, baseline.mean_signal),
            "residual": figures.residual,
            "outlier_share": sum(self._slices_T) / limits.window_volumes,
            "spikes": spikes,
            "unplaced": unplaced,
        }

    def _dvars_ratio(self, dvars_percent: float | None) -> float | None:
        """Against the median of the volumes before, once there are enough of them."""
        ratio = None
        if len(self._dvars_T) >= self._limits.settle_volumes:
            ratio = _ratio(dvars_percent, float(np.median(self._dvars_T)))
        if dvars_percent is not None and np.isfinite(dvars_percent):
            self._dvars_T.append(dvars_percent)
        return ratio

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on what was pushed, as arrays."""
        trials = [(r, trial) for r, known in enumerate(self._trials) for trial in known]
        return {
            "n_volumes": np.array(self._n_volumes),
            "counts_T3": np.array(self._counts_3T, dtype=np.int64).reshape(-1, 3),
            "slices_T": np.array(self._slices_T, dtype=np.float64),
            "dvars_T": np.array(self._dvars_T, dtype=np.float64),
            "start_signal_T": np.array(self._start_signal_T, dtype=np.float64),
            "start_tsnr": np.array(self._start_tsnr),
            "beyond_R": self._beyond_R.copy(),
            "open_R": self._open_R.copy(),
            "quiet_R": self._quiet_R.copy(),
            "episodes_R": self._episodes_R.copy(),
            "worst_R": self._worst_R.copy(),
            "trials_K2": np.array(trials, dtype=np.int64).reshape(-1, 2),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state()``: what follows is the same as without the interruption."""
        self._n_volumes = int(state["n_volumes"])
        self._counts_3T = [(int(a), int(b), int(c)) for a, b, c in state["counts_T3"]]
        self._slices_T = state["slices_T"].tolist()
        self._dvars_T = state["dvars_T"].tolist()
        self._start_signal_T = state["start_signal_T"].tolist()
        self._start_tsnr = float(state["start_tsnr"])
        self._beyond_R, self._open_R = np.array(state["beyond_R"]), np.array(state["open_R"])
        self._quiet_R, self._episodes_R = np.array(state["quiet_R"]), np.array(state["episodes_R"])
        self._worst_R = np.array(state["worst_R"])
        self._trials = [[] for _ in RULES]
        for r, trial in state["trials_K2"].tolist():
            self._trials[r].append(trial)


def _ratio(value: float | None, usual: float | None) -> float | None:
    return value / usual if value is not None and usual is not None and usual > 0.0 else None


def _away_percent(value: float | None, usual: float | None) -> float | None:
    ratio = _ratio(value, usual)
    return None if ratio is None else 100.0 * abs(ratio - 1.0)


def _flagged(trials: Sequence[int]) -> str:
    """A sentence about the trials, where there are any."""
    if not trials:
        return ""
    if len(trials) == 1:
        return f" Trial {trials[0]} is flagged."
    if len(trials) > MAX_NAMED_TRIALS:
        return f" {len(trials)} trials are flagged, {min(trials)} to {max(trials)}."
    named = [str(trial) for trial in trials]
    return f" Trials {', '.join(named[:-1])} and {named[-1]} are flagged."
