"""A run's alerts: one when a quality problem begins, with what the operator should do, and one when it is over.

Knows nothing of volumes, files or time, and measures nothing: it takes the figures of one volume, which ``figures`` and
the realigner computed, and returns alerts.

A condition is reported once when it begins and once when it is over. It is over after ``quiet_volumes`` volumes clear
of the limit by a margin; each time it returns in the same run, twice as many are required. A condition that comes and
goes through N volumes is therefore reported at most 2 log2(N / quiet_volumes + 1) + 1 times, which bounds the number of
alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.preprocessing.quality.rules import RULES, Alert, Rule, VolumeFigures

MAX_NAMED_TRIALS = 5
MAX_KEPT_TRIALS = 1000


class Alerts:
    """Alerts of one run, volume by volume."""

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
        self._beyond_R = np.zeros(n_rules, np.int64)  # volumes beyond the limit in a row, before the alert
        self._open_R = np.zeros(n_rules, np.bool_)
        self._quiet_R = np.zeros(n_rules, np.int64)
        self._episodes_R = np.zeros(n_rules, np.int64)
        self._worst_R = np.zeros(n_rules)
        self._trials: list[list[int]] = [[] for _ in RULES]

    def push(self, figures: VolumeFigures) -> list[Alert]:
        """Alerts after the next volume, which has these figures; usually none."""
        values = self._derive(figures)
        alerts: list[Alert] = []
        for r, rule in enumerate(RULES):
            limit, value = getattr(self._limits, rule.figure), values[rule.figure]
            if limit is None:
                if self._open_R[r]:  # switched off during the run
                    self._open_R[r] = False
                    alerts.append(self._over(r, rule))
                continue
            if value is not None and np.isfinite(value):
                alerts += self._apply(r, rule, value, limit, figures)
        return alerts

    def set_limits(self, limits: QualityLimits) -> None:
        """Apply these from the next volume on. A condition beyond the old limit only ends after its quiet volumes."""
        self._limits = limits

    def finish(self) -> list[Alert]:
        """The run is over: end every condition that still holds."""
        alerts = [self._over(r, rule) for r, rule in enumerate(RULES) if self._open_R[r]]
        self._open_R[:] = False
        return alerts

    def _apply(self, r: int, rule: Rule, value: float, limit: float, figures: VolumeFigures) -> list[Alert]:
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
        """A trial is flagged if its response includes a censored volume."""
        known = self._trials[r]
        if figures.censored and len(known) < MAX_KEPT_TRIALS:
            known += [trial for trial in figures.trials if trial not in known]

    def _derive(self, figures: VolumeFigures) -> dict[str, float | None]:
        """The rules' figures by name; adds the volume to the run's history."""
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
        """DVARS over the median of the volumes before, once there are enough of them."""
        ratio = None
        if len(self._dvars_T) >= self._limits.settle_volumes:
            ratio = _ratio(dvars_percent, float(np.median(self._dvars_T)))
        if dvars_percent is not None and np.isfinite(dvars_percent):
            self._dvars_T.append(dvars_percent)
        return ratio

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
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
    """A sentence that names the flagged trials; empty if there are none."""
    if not trials:
        return ""
    if len(trials) == 1:
        return f" Trial {trials[0]} is flagged."
    if len(trials) > MAX_NAMED_TRIALS:
        return f" {len(trials)} trials are flagged, {min(trials)} to {max(trials)}."
    named = [str(trial) for trial in trials]
    return f" Trials {', '.join(named[:-1])} and {named[-1]} are flagged."
