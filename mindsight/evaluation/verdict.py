"""Whether a calibrated subject can be decoded: ready, needs n more trials, or unusable and why.

The rule, in this order:

1. **Unusable** if a control is above chance (something but the brain's response is decoded), if no run could be
   registered, or if more than half of the volumes are censored or missing.
2. **Not above chance**: two-way identification (the share of wrong candidates that rank below the right one, 50 % by
   chance) has a 95 % interval that includes 50 %. With fewer than MIN_TRIALS left-out trials it **needs more** to tell;
   with as many, the subject is **unusable**.
3. **Ready** if the accuracy that the learning curve predicts for all trials of the calibration is READY_SHARE or more
   of the way from chance to its plateau, by the curve's posterior (probability of one half or more).
4. Else it **needs more**: the trials at which the curve reaches that share, with a 95 % interval, less those it has.

Without a curve of two points, as for weights that are not fitted to these runs, a subject above chance is ready.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mindsight.evaluation.calibration_record import CalibrationRecord, LeftOutTrial
from mindsight.evaluation.learning_curve import Estimate, FittedCurve
from mindsight.stages import STAGES

READY_SHARE = 0.85
MIN_TRIALS = 40
MAX_LOST_SHARE = 0.5
_FEW_RELIABLE = 0.02  # of the voxels, at a level that 1 % reach by chance

Kind = Literal["ready", "needs_more", "unusable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, and why.

    more_trials : with its interval, of ``needs_more`` where the curve predicts it
    more_minutes : the same in minutes of scanning
    now, plateau : accuracy that the curve predicts for the calibration's trials, and without end
    share : probability that the accuracy is at least READY_SHARE of the way to the plateau
    two_way : identification at the last stage, value and interval
    """

    kind: Kind
    reasons: tuple[str, ...]
    two_way: Estimate | None = None
    now: Estimate | None = None
    plateau: Estimate | None = None
    probability_ready: float | None = None
    more_trials: Estimate | None = None
    more_minutes: Estimate | None = None

    @property
    def headline(self) -> str:
        """In a few words."""
        if self.kind == "ready":
            return "Ready"
        if self.kind == "unusable":
            return "Unusable"
        if self.more_trials is None:
            return "Needs more trials"
        more, minutes = self.more_trials, self.more_minutes
        time = "" if minutes is None else f", {minutes.value:.0f} min of scanning"
        return f"Needs {more.value:.0f} more trials (95 % interval {more.low:.0f} to {more.high:.0f}{time})"


def verdict_of(record: CalibrationRecord) -> Verdict:
    """By the rule at the top of this file."""
    finals = _last_stage(record)
    faults = _faults(record, len(finals))
    two_way = two_way_of(finals) if finals else None
    if faults or two_way is None:
        return Verdict(kind="unusable", reasons=tuple(faults), two_way=two_way)
    if two_way.low <= 0.5:
        return _at_chance(record, len(finals), two_way)
    above = f"Two-way identification is {_percent(two_way)}, above the 50 % of chance."
    if len({point.trials for point in record.curve}) < 2:
        return Verdict(kind="ready", reasons=(above, "There is no learning curve to predict from."), two_way=two_way)
    return _by_curve(record, above, two_way)


def two_way_of(trials: tuple[LeftOutTrial, ...]) -> Estimate:
    """Share of the wrong candidates that rank below the right one, with a 95 % interval over trials."""
    shares = np.array([(one.n_images - one.image_rank) / max(one.n_images - 1, 1) for one in trials])
    half = 1.96 * max(float(shares.std(ddof=1)) if len(shares) > 1 else 0.5, 0.05) / math.sqrt(len(shares))
    middle = float(shares.mean())
    return Estimate(middle, max(0.0, middle - half), min(1.0, middle + half))


def _last_stage(record: CalibrationRecord) -> tuple[LeftOutTrial, ...]:
    return next((found for stage in reversed(STAGES) if (found := record.of_stage(stage))), ())


def _faults(record: CalibrationRecord, n: int) -> list[str]:
    faults = [
        f"The control “{control.what}” is above chance ({control.accuracy}): something but the brain's response to the"
        " images is decoded. Look for what images and runs have in common."
        for control in record.controls
        if control.leaks
    ]
    if record.registrations and not any(place.trusted for place in record.registrations):
        faults.append("No run could be registered to the reference: check subject, orientation and coverage.")
    volumes = sum(run.volumes for run in record.runs)
    lost = sum(run.censored for run in record.runs)
    if volumes and lost > MAX_LOST_SHARE * volumes:
        faults.append(f"{lost} of {volumes} volumes are censored or missing: the head must lie still. Scan again.")
    if n == 0:
        faults.append("No trial was decoded: check that events name what was shown.")
    return faults


def _at_chance(record: CalibrationRecord, n: int, two_way: Estimate) -> Verdict:
    reasons = [f"Two-way identification is {_percent(two_way)}: not above the 50 % of chance."]
    if n < MIN_TRIALS:
        reasons.append(f"{n} left-out trials are too few to tell; {MIN_TRIALS} are needed.")
        more = Estimate(MIN_TRIALS - n, MIN_TRIALS - n, MIN_TRIALS - n)
        return Verdict(kind="needs_more", reasons=tuple(reasons), two_way=two_way, more_trials=more)
    ceiling = record.ceiling
    if ceiling is not None and ceiling.reliable_voxels <= _FEW_RELIABLE * ceiling.voxels:
        reasons.append(
            f"{ceiling.reliable_voxels} of {ceiling.voxels} voxels respond reliably to repeats, by chance"
            f" {0.01 * ceiling.voxels:.0f}: check the onsets of events, and that the participant saw the images."
        )
    elif ceiling is not None:
        reasons.append(
            f"{ceiling.reliable_voxels} of {ceiling.voxels} voxels respond reliably to repeats, so that there is a"
            " response: check which image each event names, and the candidate pool's encoder."
        )
    return Verdict(kind="unusable", reasons=tuple(reasons), two_way=two_way)


def _by_curve(record: CalibrationRecord, above: str, two_way: Estimate) -> Verdict:
    curve = FittedCurve.fit(record.curve)
    have = max(len({(one.run, one.trial) for one in record.trials}), *(point.trials for point in record.curve))
    now, plateau = curve.accuracy(have), curve.accuracy(math.inf)
    probability = curve.probability_of(READY_SHARE, have)
    reasons = (
        above,
        f"With all {have} trials the curve predicts {_percent(now)} right, without end {_percent(plateau)}.",
        f"The probability is {probability:.0%} that this is {READY_SHARE:.0%} or more of the way from chance to the"
        " plateau.",
    )
    if probability >= 0.5:
        return Verdict(
            kind="ready", reasons=reasons, two_way=two_way, now=now, plateau=plateau, probability_ready=probability
        )
    needed = curve.trials_for(READY_SHARE)
    more = Estimate(*(max(0.0, at - have) for at in (needed.value, needed.low, needed.high)))
    per_trial = record.minutes / have
    return Verdict(
        kind="needs_more",
        reasons=reasons,
        two_way=two_way,
        now=now,
        plateau=plateau,
        probability_ready=probability,
        more_trials=more,
        more_minutes=Estimate(more.value * per_trial, more.low * per_trial, more.high * per_trial),
    )


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"
