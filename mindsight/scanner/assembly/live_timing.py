"""Repetition time, clock and slice times of one run while its volumes arrive: the rule of ``timing.py``, live.

Knows nothing of series. A run is held until its second volume. If the step between the two contradicts the stated
repetition time, it is held until its third: one odd step decides nothing. A later contradiction is reported once.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindsight.scanner.assembly.items import Item, TransportWarning
from mindsight.scanner.timing import Pace, agreed_tr, jumps_of, jumps_text, pace_of, same_times, why_not_times
from mindsight.volume import Volume

N_STEPS = 3  # steps before a contradiction with the clock is reported
N_UNSTEADY = 8  # steps before an unsteady clock is reported
MAX_MOMENTS = 64
MAX_JUMP_WARNINGS = 3


def must_wait(volumes: Mapping[int, Volume], stated_s: float | None) -> bool:
    """Whether a third volume must decide: two volumes contradict the stated time, or none is stated."""
    if len(volumes) != 2:
        return False
    pace = _pace(volumes)
    return pace is not None and (stated_s is None or not pace.agrees(stated_s))


class LiveTiming:
    """The timing of a run that begins with these volumes.

    volumes : by their index
    stated_s : repetition time in their headers
    declared_s : repetition time declared by a person

    Raises BadVolume, see ``agreed_tr``.
    """

    def __init__(
        self, run: int, volumes: Mapping[int, Volume], stated_s: float | None, declared_s: float | None
    ) -> None:
        pace = _pace(volumes)
        agreed = agreed_tr({"in the header": stated_s}, pace, declared_s)
        self.tr_s = agreed.tr_s
        self.warnings = [TransportWarning("volume.tr", f"run {run}: {note}", None, run) for note in agreed.notes]
        # GE states the start of the series in every volume: that is not a clock.
        self.has_clock = pace is not None or len(volumes) < 2
        self._run = run
        self._moments_s: dict[int, float | None] = {}
        self._times_Z: NDArray[np.float64] | None = None
        self._candidate_Z: NDArray[np.float64] | None = None  # of a single volume, not confirmed by another
        self._newest = (-1, 0.0)  # volume and its moment
        self._n_jump_warnings = 0
        self._reported_times = self._reported_pace = False
        self._learn_times(volumes)

    def applied(self, volume: Volume, items: MutableSequence[Item]) -> Volume:
        """The volume with the run's timing; warnings about it are added to ``items``."""
        acquired_s = volume.acquired_s if self.has_clock else None
        self._check_pace(volume.index, acquired_s, items)
        times_Z = self._times_of(volume, items)
        return replace(volume, tr_s=self.tr_s, acquired_s=acquired_s, slice_times_s=times_Z)

    def _check_pace(self, index: int, acquired_s: float | None, items: MutableSequence[Item]) -> None:
        if acquired_s is None:
            return
        self._check_step(index, acquired_s, items)
        if self._reported_pace:
            return
        self._moments_s[index] = acquired_s
        if len(self._moments_s) > MAX_MOMENTS:
            del self._moments_s[next(iter(self._moments_s))]
        if len(self._moments_s) <= N_STEPS:
            return
        pace = pace_of(self._moments_s)
        if pace is not None and pace.steady and not pace.agrees(self.tr_s):
            self._reported_pace = True
            text = (
                f"run {self._run}: the volumes are {pace.tr_s:g} s apart by their clock, not {self.tr_s:g} s (TR); "
                "find out which is right, and declare it (tr)"
            )
            items.append(TransportWarning("volume.tr_mismatch", text, index, self._run))
        elif pace is not None and not pace.steady and len(self._moments_s) >= N_UNSTEADY:
            self._reported_pace = True
            text = (
                f"run {self._run}: the clock of the volumes is not steady and does not confirm a TR of {self.tr_s:g} "
                "s; check it against the protocol"
            )
            items.append(TransportWarning("volume.tr", text, index, self._run))

    def _check_step(self, index: int, acquired_s: float, items: MutableSequence[Item]) -> None:
        before, self._newest = self._newest, max(self._newest, (index, acquired_s))
        jumps_s = jumps_of(dict([before, (index, acquired_s)]), self.tr_s) if 0 <= before[0] < index else {}
        if jumps_s and self._n_jump_warnings < MAX_JUMP_WARNINGS and not self._reported_pace:
            self._n_jump_warnings += 1
            items.append(TransportWarning("volume.clock", f"run {self._run}: {jumps_text(jumps_s)}", index, self._run))

    def _learn_times(self, volumes: Mapping[int, Volume]) -> None:
        """Slice times of the volumes that begin the run; unknown if they state different ones."""
        stated = [volumes[index].slice_times_s for index in sorted(volumes)]
        n_slices = next(iter(volumes.values())).shape[2]
        fit = [times_Z for times_Z in stated if times_Z is not None]
        fit = [times_Z for times_Z in fit if why_not_times(times_Z, n_slices, self.tr_s) is None]
        if not fit:
            return
        if all(same_times(fit[0], times_Z) for times_Z in fit):
            self._times_Z = fit[0]
            return
        self._candidate_Z = fit[-1]
        if len(fit) > 2 and same_times(fit[-1], fit[-2]):
            self._times_Z = fit[-1]

    def _times_of(self, volume: Volume, items: MutableSequence[Item]) -> NDArray[np.float64] | None:
        own_Z = volume.slice_times_s
        if own_Z is None:
            return self._times_Z
        why_not = why_not_times(own_Z, volume.shape[2], self.tr_s)
        if why_not is None and self._times_Z is not None:
            if same_times(own_Z, self._times_Z):
                return own_Z
            why_not = "they differ from those of the other volumes"
        elif why_not is None:
            if self._candidate_Z is not None and same_times(own_Z, self._candidate_Z) and volume.index > 1:
                self._times_Z = own_Z
                return own_Z
            self._candidate_Z = own_Z
            why_not = "the first volumes state different times"
        if not self._reported_times:
            self._reported_times = True
            taken = "taken as unknown" if self._times_Z is None else "replaced by those of the others"
            text = f"run {self._run}: slice times of volume {volume.index} are {taken}: {why_not}"
            items.append(TransportWarning("volume.slice_times", text, volume.index, self._run))
        return self._times_Z


def _pace(volumes: Mapping[int, Volume]) -> Pace | None:
    return pace_of({index: volume.acquired_s for index, volume in volumes.items()})
