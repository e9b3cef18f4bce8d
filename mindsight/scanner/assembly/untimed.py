"""Volumes of series that state no repetition time, held until the clock of two of them gives it.

Knows nothing of files or runs. ``live_timing.py`` compares it with the clock of later volumes, like any header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mindsight.errors import MindsightError
from mindsight.scanner.assembly.items import Item, TransportWarning
from mindsight.scanner.formats.files import no_tr
from mindsight.scanner.timing import pace_of
from mindsight.volume_bounds import is_tr

Make = Callable[[float], Iterator[Item]]
"""Makes the volume once its repetition time is known."""

MAX_SERIES = 8


@dataclass(frozen=True, slots=True)
class _Held:
    position: int
    moment_s: float
    make: Make


class Untimed:
    """Holds the first volume of each series without a repetition time."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._tr_s: dict[str, float] = {}

    def made(
        self, series: str, position: int, moment_s: float | None, stated_s: float | None, make: Make
    ) -> Iterator[Item]:
        """The items of the held volume and of this one; none while this one is held.

        Raises BadVolume if there is neither a repetition time nor a clock.
        """
        tr_s = self._tr_s.get(series) if stated_s is None else stated_s
        if tr_s is None:
            held = self._held.get(series)
            pace = None if held is None else pace_of({held.position: held.moment_s, position: moment_s})
            tr_s = pace.tr_s if pace is not None and is_tr(pace.tr_s) else None
            if tr_s is not None:
                self._tr_s[series] = tr_s
                yield by_clock(tr_s)
        held = self._held.pop(series, None)
        if tr_s is not None:
            if held is not None:
                yield from _whatever_comes(held, tr_s)
            yield from make(tr_s)
            return
        if held is not None or moment_s is None:
            raise no_tr()
        self._held[series] = _Held(position, moment_s, make)
        if len(self._held) > MAX_SERIES:
            yield self._left(next(iter(self._held)))

    def finish(self) -> Iterator[Item]:
        for series in list(self._held):
            yield self._left(series)

    def _left(self, series: str) -> TransportWarning:
        del self._held[series]
        error = no_tr()
        return TransportWarning(error.code, str(error), lost=True)


def _whatever_comes(held: _Held, tr_s: float) -> Iterator[Item]:
    """The items of the held volume; if it fails, only a warning, so that the next volume is not lost."""
    try:
        yield from held.make(tr_s)
    except MindsightError as error:
        yield TransportWarning(error.code, f"the volume before: {error}", lost=True)


def by_clock(tr_s: float) -> TransportWarning:
    text = f"TR {tr_s:g} s by the clock of the volumes; nothing else states one, check it"
    return TransportWarning("volume.tr", text)
