"""The echoes of a run's volumes in any order → combined volumes, in order.

Knows nothing of transports. The echoes of the run are known once one of them arrives for the second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mindsight.errors import BadVolume
from mindsight.scanner.assembly.families import Family
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.assembly.marks import mark_of
from mindsight.scanner.echoes import Combination, Echo, combination_note, times_of
from mindsight.volume import Volume

MAX_FAMILIES = 8
MAX_WHOLE_AFTER = 2  # whole volumes that may wait for an echo of the one before

Gathered = tuple[Family, int, Volume] | TransportWarning
"""A combined volume with its family and its position in the run; or a warning."""


@dataclass(slots=True)
class _Gathering:
    """The volumes of one family that wait for their other echoes.

    echoes : in order; empty until they are known
    held : volumes by position and echo
    """

    echoes: tuple[Echo, ...] = ()
    combination: Combination | None = None
    stride: int = 1
    held: dict[int, dict[Echo, Volume]] = field(default_factory=dict)
    marks: dict[tuple[int, Echo], int] = field(default_factory=dict)
    next: int = -1
    refused: bool = False


class Gather:
    """Combines the echoes of each family."""

    def __init__(self) -> None:
        self._of: dict[Family, _Gathering] = {}

    def add(self, family: Family, echo: Echo, position: int, volume: Volume) -> Iterator[Gathered]:
        """The combined volumes that are complete now, with warnings."""
        gathering = self._of.get(family)
        if gathering is None:
            gathering = self._of[family] = _Gathering()
            if len(self._of) > MAX_FAMILIES:
                del self._of[next(iter(self._of))]
        if gathering.refused:
            return
        if not gathering.echoes:
            is_known = any(echo in volumes and other != position for other, volumes in gathering.held.items())
            gathering.held.setdefault(position, {}).setdefault(echo, volume)
            if is_known:
                yield from self._know(family, gathering)
                yield from self._whole(family, gathering)
            return
        index, mark = position // gathering.stride, mark_of(volume)
        if index < gathering.next:
            if gathering.marks.get((index, echo), mark) == mark:
                return  # a repeat, or too late
            gathering = self._of[family] = _Gathering(  # the numbers restart with other voxels: another run
                gathering.echoes, Combination(times_of(gathering.echoes)), gathering.stride
            )
        if echo in gathering.echoes:
            gathering.marks[index, echo] = mark
            gathering.held.setdefault(index, {}).setdefault(echo, volume)
            yield from self._whole(family, gathering)

    def finish(self) -> Iterator[Gathered]:
        """The volumes that are left when nothing more will arrive."""
        for family, gathering in self._of.items():
            if gathering.echoes:
                yield from self._whole(family, gathering, is_over=True)

    def _know(self, family: Family, gathering: _Gathering) -> Iterator[TransportWarning]:
        echoes = tuple(sorted(family.echoes, key=lambda echo: echo.rank))
        try:
            gathering.combination = Combination(times_of(echoes))
        except BadVolume as error:
            gathering.refused = True
            gathering.held.clear()
            yield TransportWarning(error.code, f"ignored a series: {error}", lost=True)
            return
        gathering.echoes, gathering.stride = echoes, family.stride
        family.begun = echoes[0]
        held: dict[int, dict[Echo, Volume]] = {}
        for position, volumes in gathering.held.items():
            for echo, volume in volumes.items():
                held.setdefault(position // gathering.stride, {})[echo] = volume
                gathering.marks[position // gathering.stride, echo] = mark_of(volume)
        gathering.held = held
        yield TransportWarning("series.echoes", combination_note(echoes))

    def _whole(self, family: Family, gathering: _Gathering, *, is_over: bool = False) -> Iterator[Gathered]:
        combination, n = gathering.combination, len(gathering.echoes)
        while gathering.held and combination is not None:
            index = min(gathering.held)
            n_whole = sum(len(volumes) == n for volumes in gathering.held.values())
            volumes = gathering.held[index]
            if len(volumes) < n and not is_over and n_whole < MAX_WHOLE_AFTER:
                return
            del gathering.held[index]
            gathering.next = index + 1
            if len(volumes) < n:
                text = f"dropped volume {index}: only {len(volumes)} of {n} echoes arrived; check the sender"
                yield TransportWarning("echoes.incomplete", text, lost=True)
                continue
            yield family, index, combination.volume([volumes[echo] for echo in gathering.echoes])
