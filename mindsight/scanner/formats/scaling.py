"""Whether the volumes of a series have one unit. Knows nothing of files.

Scanners choose a rescaling for each image; Philips also states the real scale, which brings images to one unit. If an
export drops either from some objects, their values are off by an unknown factor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord

K = TypeVar("K")

_RANKS = ("", "plain", "rescaled", "Philips")
_NAMES = {"Philips": "Philips' real scale", "rescaled": "a rescaling"}
MAX_SERIES = 64


class SeriesScales:
    """The scales of series whose volumes arrive one after the other."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def check(self, series: str, records: Iterable[DicomRecord]) -> str | None:
        """A note if this volume states a scale that the volumes before lack.

        Raises BadVolume if this volume lacks the scale of those before.
        """
        scale = max(map(_scale_of, records), key=_RANKS.index)
        known = self._of.setdefault(series, scale)
        if len(self._of) > MAX_SERIES:
            del self._of[next(iter(self._of))]
        if not _differ(scale, known):
            return None
        if _RANKS.index(scale) < _RANKS.index(known):
            raise _lacking(scale, known)
        self._of[series] = scale
        return (
            f"the volumes before lack {_NAMES[scale]}, which this one states: their values are on another scale; "
            "export with all elements"
        )


def of_another_scale(records: Mapping[K, DicomRecord]) -> dict[K, BadVolume]:
    """The objects of a whole series that are scaled differently from most."""
    scales = {key: _scale_of(record) for key, record in records.items()}
    usual = max(Counter(scales.values()).items(), key=lambda one: (one[1], _RANKS.index(one[0])))[0]
    return {key: _lacking(scale, usual) for key, scale in scales.items() if _differ(scale, usual)}


def _scale_of(record: DicomRecord) -> str:
    """How the values of an object become signal: the most specific scaling among its frames."""
    return max((frame.scaling for frame in record.frames), key=_RANKS.index, default="")


def _differ(one: str, other: str) -> bool:
    return one != other and ("Philips" in (one, other) or {one, other} == {"", "rescaled"})


def _lacking(scale: str, usual: str) -> BadVolume:
    got, expected = _NAMES.get(scale, "none"), _NAMES.get(usual, "none")
    text = f"expected {expected} as in the others of the series, got {got}; export with all elements"
    return BadVolume(text, code="dicom.scale")
