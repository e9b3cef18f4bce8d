"""Which of the arriving series are echoes of one run, and how their numbers count.

Knows nothing of volumes. Echoes may arrive in one series or in one series each, in any order.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from mindsight.scanner.echoes import Echo, stride_of
from mindsight.scanner.formats.dicom_header import DicomRecord

MAX_FAMILIES = 64
MAX_NUMBERS = 10_000


@dataclass(eq=False, slots=True)
class Family:
    """One run's echoes.

    grid : what all of them have in common
    echoes : those that have arrived
    begun : the one that is read; None before the run has begun
    named : those that a warning has named as ignored
    """

    grid: Hashable
    acquired_s: float | None = None
    echoes: list[Echo] = field(default_factory=list)
    begun: Echo | None = None
    named: set[Echo] = field(default_factory=set)
    _numbers: dict[Echo, set[int]] = field(default_factory=dict)

    def see(self, echo: Echo, number: int | None) -> None:
        """Counts a volume of this echo, with its number."""
        numbers = self._numbers.setdefault(echo, set())
        if self.begun is None and number is not None and len(numbers) < MAX_NUMBERS:
            numbers.add(number)

    @property
    def stride(self) -> int:
        """Distance between the numbers of successive volumes of one echo."""
        return stride_of(list(self._numbers.values()))


class Families:
    """The family of each series, for the latest MAX_FAMILIES series."""

    def __init__(self) -> None:
        self._of: dict[str, Family] = {}

    def of(self, series: str, record: DicomRecord) -> Family:
        """Family of the series: it joins a run that it matches in everything but the echo."""
        family = self._of.get(series)
        if family is None:
            frame = record.frames[0]
            turned = tuple(round(cosine, 3) for cosine in frame.orientation or ())
            grid = (record.rows, record.columns, record.tr_s, turned)
            echo = Echo(frame.echo_number, frame.echo_time_ms)
            near = (one for one in reversed(self._of.values()) if one.grid == grid)
            found = next((one for one in near if _joins(one, echo, frame.acquired_s, record.tr_s)), None)
            family = self._of[series] = found or Family(grid, frame.acquired_s)
            self._bound()
        return family

    def named(self, series: str) -> Family:
        """Family of a series that holds all its echoes itself."""
        family = self._of.setdefault(series, Family(series))
        self._bound()
        return family

    def known(self, series: str) -> Family | None:
        return self._of.get(series)

    def _bound(self) -> None:
        if len(self._of) > MAX_FAMILIES:
            del self._of[next(iter(self._of))]


def _joins(family: Family, echo: Echo, acquired_s: float | None, tr_s: float | None) -> bool:
    if not echo.is_stated or any(one.is_same(echo) for one in family.echoes):
        return False
    if echo.number is not None and all(one.number not in (None, echo.number) for one in family.echoes):
        return True  # counted as another echo
    if family.begun is not None or acquired_s is None or family.acquired_s is None:
        return False
    return abs(acquired_s - family.acquired_s) <= (tr_s or 0.0)


def key_of(series: str, family: Family, echo: Echo) -> str:
    """Key of the objects of one echo."""
    return f"{series} {family.echoes.index(echo)}"
