"""The rules: which figure, how far beyond its limit and for how long, gives which alert.

Knows nothing of a run's history: see ``alerts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class VolumeFigures:
    """One volume's figures, None if they are unknown.

    fd_mm, dvars_percent, tsnr : of ``QualityFigures``
    displacement_mm : of the head from the reference, see ``rigid.displacement_mm``
    mean_signal : mean over the voxels, in the volumes' units
    residual, unplaced : of ``Aligned`` (``unplaced`` is not ``converged``)
    outlier_share : ``Aligned.outlier_slices`` as a share of the volume's slices
    spike : the signal jumped and came back, without motion
    censored : the volume is excluded from the betas
    trials : trials whose response includes the volume
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
    """One message about a run's quality.

    code : stable; ends in ``.over`` if it reports the end of a condition
    text : for the operator, with what to do
    """

    code: str
    text: str
    level: Level


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition.

    figure : name of the figure, and of its limit in ``QualityLimits``
    begins : consecutive volumes beyond the limit before the alert is raised
    margin : the limit times this must be cleared before the condition can end; under 1 if high values are bad,
        over 1 if low values are bad
    text, over : message at the beginning, with {value}, {limit} and {window} filled in; at the end, with {worst}
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
        "The head is still again; it moved up to {worst:.1f} mm from volume to volume.",
    ),
    Rule(
        *("quality.motion_often", "censored_share", "error", 1, 0.5),
        "{value:.0%} of the last {window} volumes cannot be used (limit {limit:.0%}). Pause, speak with the"
        " participant, and consider repeating the run.",
        "Most volumes can be used again; at worst {worst:.0%} of {window} could not.",
    ),
    Rule(
        *("quality.position", "displacement_mm", "warning", 3, 0.9),
        "The head is {value:.1f} mm from the reference (limit {limit:g} mm). Check after this run that the whole"
        " brain is still in the field of view; if not, reposition the slices.",
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
        " participant to lie still; if it continues, have the scanner checked: coil, cables, gradients.",
        "The slices fit again; at worst {worst:.1%} did not.",
    ),
    Rule(
        *("quality.spike", "spikes", "warning", 1, 0.8),
        "The signal spiked without motion ({value:.0f} in the last {window} volumes). Look for a loose part or a"
        " switching device in the room; the scanner may need service.",
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
        " sequence; results will be less certain.",
        "The signal is about as clean as at calibration again.",
    ),
    Rule(
        *("quality.tsnr", "tsnr_start_ratio", "warning", 5, 1.1),
        "The signal became noisier: tSNR is {value:.0%} of the run's start (limit {limit:.0%}). Ask the participant to"
        " lie still; if it persists, end the run.",
        "The signal is about as clean as at the run's start again.",
    ),
    Rule(
        *("quality.drift", "drift_percent", "warning", 5, 0.8),
        "The mean signal drifted {value:.1f} % from the run's start (limit {limit:g} %). The cause may be slow head"
        " movement or the scanner warming up; if the drift grows, end the run and start another.",
        "The mean signal is near the run's start again; it was up to {worst:.1f} % away.",
    ),
    Rule(
        *("quality.signal", "signal_percent", "error", 5, 0.8),
        "The mean signal is {value:.0f} % away from the calibration's (limit {limit:g} %). Check that coil, sequence"
        " and the image scaling are those of the calibration.",
        "The mean signal is near the calibration's again.",
    ),
)
"""All alerts about quality. A rule's position is its number in the state of ``Alerts``."""
