"""The one rule of a run's repetition time and slice times: stated values are compared with the volumes' own clock.

Knows nothing of files or formats: statements and times come in; the values to use, and why, go out.

A header, a JSON file beside it, or a person states the repetition time (TR). Volumes that know when they were acquired
state it too, by the steps of that clock. The TR is the value on which they agree. If a steady clock contradicts a
header, the clock is right: some headers state the time of an excitation or of a slice, or omit a pause. If it
contradicts a person, the run is refused, since its events may be wrong too. Nothing is ever made up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.volume_bounds import MAX_TR_S, MIN_TR_S, is_tr, same_tr

Float64Array = NDArray[np.float64]

CLOCK_SHARE = 5e-3  # a Siemens Trio's headers state 1.97 s, but its volumes begin 1.9776 s apart
DAY_S = 86_400.0
TICK_S = 2.5e-3  # of Siemens' clock; none is finer
STEADY_SHARE = 0.1  # steps that vary by more come from a heart or a person, not from a scanner
GOOD_SHARE = 2 / 3
UNSTEADY_SHARE = 0.1  # even an unsteady clock must agree with the TR to this share
JUMP_SHARE = 0.5  # of a TR: a larger deviation of a step is a jump, not jitter
SAME_MOMENT_S = 5e-3
SAME_TIMES_S = 0.02  # slice times of two volumes of one run differ by the clock's ticks


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a run's volumes by their clock.

    step_s : seconds per volume
    uncertainty_s : of step_s, from the clock's resolution, its jitter and the number of volumes
    steady : most steps are equal
    """

    step_s: float
    uncertainty_s: float
    steady: bool

    @property
    def tr_s(self) -> float:
        """The step to a millisecond, as in headers, unless the clock is more precise."""
        rounded_s = round(self.step_s, 3)
        return rounded_s if abs(rounded_s - self.step_s) <= max(self.uncertainty_s, 1e-6) else round(self.step_s, 6)

    def agrees(self, tr_s: float) -> bool:
        return abs(self.step_s - tr_s) <= CLOCK_SHARE * self.step_s + self.uncertainty_s

    def nearest(self, stated: Sequence[float]) -> float | None:
        """The repetition time with which it agrees best (the first of equivalent ones); None if it agrees with none."""
        agreeing = [tr_s for tr_s in stated if self.agrees(tr_s)]
        best_s = min(agreeing, key=lambda tr_s: abs(self.step_s - tr_s), default=None)
        return best_s if best_s is None else next(tr_s for tr_s in agreeing if same_tr(tr_s, best_s))


def pace_of(moments_s: Mapping[int, float | None]) -> Pace | None:
    """The pace of volumes by index; None if they have no clock.

    It is robust to one odd volume, a gap in the indices, a pause, and midnight (if the date was blanked). GE states the
    start of the series in every volume: that is not a clock.
    """
    known = sorted((index, moment_s) for index, moment_s in moments_s.items() if moment_s is not None)
    if len(known) < 2:
        return None
    indices_N, moments_N = np.array([index for index, _ in known]), np.array([moment_s for _, moment_s in known])
    advances, spans = np.diff(moments_N), np.diff(indices_N)
    advances = np.where(advances < -DAY_S / 2, advances + DAY_S, advances)
    steps = advances / spans
    resolution_s = _resolution_s(moments_N)
    typical_s = float(np.median(steps))
    jitter_s = 1.4826 * float(np.median(np.abs(steps - typical_s)))
    good = np.abs(steps - typical_s) <= max(3.0 * jitter_s, 1.5 * resolution_s)
    n_good = int(spans[good].sum())
    step_s = float(advances[good].sum()) / n_good
    if step_s < TICK_S:
        return None
    n_pieces = int(good[0]) + int(np.sum(good[1:] & ~good[:-1]))
    uncertainty_s = resolution_s * n_pieces / n_good + 3.0 * jitter_s / np.sqrt(len(steps))
    if len(steps) == 1:  # the jitter is unknown
        uncertainty_s += CLOCK_SHARE * step_s
    steady = jitter_s <= STEADY_SHARE * step_s + resolution_s and float(np.mean(good)) >= GOOD_SHARE
    return Pace(step_s, float(uncertainty_s), bool(steady))


def jumps_of(moments_s: Mapping[int, float | None], tr_s: float) -> dict[int, float]:
    """Seconds by which the clock jumps before each volume that does not follow the one before at the expected time.

    Causes: a pause, uncounted missing volumes, or an image before the run (a single-band reference).
    """
    known = sorted((index, moment_s) for index, moment_s in moments_s.items() if moment_s is not None)
    found = {}
    for (index, moment_s), (next_index, next_s) in itertools.pairwise(known):
        advance_s = next_s - moment_s
        advance_s += DAY_S if -DAY_S <= advance_s < -DAY_S / 2 else 0.0
        excess_s = advance_s - (next_index - index) * tr_s
        if abs(excess_s) > JUMP_SHARE * tr_s + _resolution_s(np.array([moment_s, next_s])):
            found[next_index] = excess_s
    return found


def jumps_text(jumps_s: Mapping[int, float]) -> str:
    """A note for the operator: the clock's jumps, and what they mean for events."""
    named = [f"{excess_s:g} s before volume {index}" for index, excess_s in itertools.islice(jumps_s.items(), 3)]
    more = f" and {len(jumps_s) - 3} times more" if len(jumps_s) > 3 else ""
    return (
        f"the clock of the volumes jumps by {', '.join(named)}{more} (a pause, missing volumes, or an image before the "
        "run); onsets are counted in volumes, so check that they still fit"
    )


def _resolution_s(moments_N: Float64Array) -> float:
    """The clock's resolution; a clock of whole seconds is imprecise for two volumes."""
    for resolution_s in (1.0, 0.1, 0.01):
        if np.abs(moments_N / resolution_s - np.round(moments_N / resolution_s)).max() * resolution_s < 1e-5:
            return resolution_s
    return TICK_S


@dataclass(frozen=True, slots=True)
class Agreed:
    """The repetition time of a run, and notes for the operator on how it was found."""

    tr_s: float
    notes: tuple[str, ...] = ()


def agreed_tr(stated_s: Mapping[str, float | None], pace: Pace | None, declared_s: float | None = None) -> Agreed:
    """The repetition time by the one rule.

    stated_s : repetition time by source in words (``in the header``), the preferred one first; None and impossible
        values count as unstated
    pace : of the volumes, None if they have no clock
    declared_s : declared by a person

    Raises BadVolume (``volume.tr``) if there is none, (``volume.tr_mismatch``) if two contradict each other and nothing
    decides.
    """
    stated = {who: tr_s for who, tr_s in stated_s.items() if tr_s is not None and is_tr(tr_s)}
    if declared_s is not None and not is_tr(declared_s):
        raise BadVolume(f"expected a TR of {MIN_TR_S} to {MAX_TR_S:g} s, got {declared_s!r}", code="volume.tr")
    steady = pace if pace is not None and pace.steady and is_tr(pace.step_s) else None
    if declared_s is not None:
        if steady is not None and steady.nearest([declared_s, *stated.values()]) != declared_s:
            text = (
                f"expected a TR of {declared_s:g} s as declared, got {steady.tr_s:g} s by the clock of the volumes; "
                "find out which is right, and declare it"
            )
            raise BadVolume(text, code="volume.tr_mismatch")
        others = _others(stated, declared_s)
        return Agreed(declared_s, (f"TR {declared_s:g} s as declared; {others}",) if others else ())
    if steady is not None:
        agreeing = steady.nearest(list(stated.values()))
        tr_s = steady.tr_s if agreeing is None else agreeing
        others = _others(stated, tr_s, steady)
        if agreeing is None or others:
            return Agreed(tr_s, (f"TR {tr_s:g} s by the clock of the volumes; {others or 'nothing else states one'}",))
        return Agreed(tr_s)
    if not stated:
        text = f"the file states no repetition time of {MIN_TR_S} to {MAX_TR_S:g} s; give tr_s"
        raise BadVolume(text, code="volume.tr")
    tr_s = next(iter(stated.values()))
    if any(not same_tr(tr_s, other_s) for other_s in stated.values()):
        raise _contradiction(stated)
    if pace is None or not is_tr(pace.step_s):
        return Agreed(tr_s)
    if abs(pace.step_s - tr_s) > UNSTEADY_SHARE * tr_s + pace.uncertainty_s:
        raise _contradiction({**stated, "on average by the clock of the volumes, which is not steady": pace.tr_s})
    return Agreed(
        tr_s, (f"TR {tr_s:g} s as stated; the clock of the volumes is not steady, so nothing confirms it; check it",)
    )


def _others(stated: Mapping[str, float], taken_s: float, pace: Pace | None = None) -> str:
    """The statements that differ, in words."""
    other = {where: tr_s for where, tr_s in stated.items() if not same_tr(tr_s, taken_s)}
    return " and ".join(
        f"it is {tr_s:g} s {where}" for where, tr_s in other.items() if pace is None or not pace.agrees(tr_s)
    )


def _contradiction(statements: Mapping[str, float]) -> BadVolume:
    words = " and ".join(f"{tr_s:g} s {where}" for where, tr_s in statements.items())
    return BadVolume(
        f"expected one repetition time (TR), got {words}; find out which is right, and declare it",
        code="volume.tr_mismatch",
    )


def usual_tr(stated: Sequence[float | None]) -> float | None:
    """The repetition time that most files of a series state; None if none does."""
    found = [tr_s for tr_s in stated if tr_s is not None and is_tr(tr_s)]
    return max(set(found), key=found.count, default=None)


def why_not_times(times_Z: Float64Array, n_slices: int, tr_s: float) -> str | None:
    """Why slice times (seconds after the volume's start) are impossible, in words; None if they are possible."""
    if times_Z.shape != (n_slices,):
        return f"{times_Z.size} are stated for {n_slices} slices"
    if not np.isfinite(times_Z).all() or float(times_Z.min()) < 0.0:
        return "they are not times after the volume's start"
    if float(times_Z.max()) > tr_s + TICK_S:
        unit = "; they would fit in milliseconds" if 1e-3 * float(times_Z.max()) <= tr_s + TICK_S else ""
        return f"they reach {times_Z.max():g} s, beyond the repetition time of {tr_s:g} s{unit}"
    if n_slices > 1 and float(np.ptp(times_Z)) < TICK_S / 2:
        return "all slices have the same time"
    counts = _slices_per_moment(times_Z)
    if len(set(counts)) > 1:
        return f"{min(counts)} to {max(counts)} slices share a time, but a sequence excites equally many at a time"
    return None


def _slices_per_moment(times_Z: Float64Array) -> list[int]:
    """Number of slices at each time. Gaps separate times: slices excited together may be a tick apart."""
    gaps = np.diff(np.sort(times_Z))
    apart = gaps[gaps > SAME_MOMENT_S / 2]
    limit_s = 0.5 * float(np.median(apart)) if apart.size else np.inf
    ends = [*(np.flatnonzero(gaps > limit_s) + 1).tolist(), len(times_Z)]
    return [end - start for start, end in itertools.pairwise([0, *ends])]


def same_times(one_Z: Float64Array, other_Z: Float64Array) -> bool:
    """Whether two volumes of a run state the same slice times, within the ticks of their clock."""
    return one_Z.shape == other_Z.shape and float(np.abs(one_Z - other_Z).max()) <= SAME_TIMES_S


@dataclass(frozen=True, slots=True)
class AgreedTimes:
    """Slice times of a run, None if they are unknown, and notes for the operator."""

    times_Z: Float64Array | None
    notes: tuple[str, ...] = ()

    def of(self, own_Z: Float64Array | None) -> Float64Array | None:
        """The times for one volume: its own if they equal the run's, otherwise the run's."""
        if self.times_Z is None or own_Z is None or not same_times(own_Z, self.times_Z):
            return self.times_Z
        return own_Z


def agreed_times(stated: Sequence[Float64Array | None], n_slices: int, tr_s: float) -> AgreedTimes:
    """The slice times of a run from those of its volumes, in order: the possible ones that most volumes state.

    Siemens' first volume may state those of a sequence without multiband (dcm2niix, issues 704 and 879).
    """
    found = [times_Z for times_Z in stated if times_Z is not None]
    reasons = [why_not_times(times_Z, n_slices, tr_s) for times_Z in found]
    left = [times_Z for times_Z, reason in zip(found, reasons, strict=True) if reason is None]
    if not left:
        reason = next((reason for reason in reasons if reason is not None), None)
        return AgreedTimes(None, () if reason is None else (f"slice times are unknown: {reason}",))
    typical_Z = np.median(left, axis=0)
    alike = [times_Z for times_Z in left if same_times(times_Z, typical_Z)]
    if 2 * len(alike) <= len(found) and len(found) > 1:
        return AgreedTimes(None, ("slice times are unknown: the volumes state different times",))
    n_other = len(found) - len(alike)
    if n_other == 0:
        return AgreedTimes(alike[0])
    is_first = n_other == 1 and alike[0] is not found[0]
    which = "the first volume states" if is_first else f"{n_other} state"
    text = f"slice times are those of {len(alike)} of {len(found)} volumes; {which} other times"
    return AgreedTimes(alike[0], (text,))
