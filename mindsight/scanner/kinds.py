"""What the values of a DICOM object are: magnitude or phase, as acquired or corrected for motion by the scanner.

Knows nothing of files, pixels or names: it reads coded words only, since a series' description may hold an identity.

Scanners send the same run more than once: magnitude and phase (Philips: in one series, Siemens: in two), raw and
motion-corrected (Siemens: in two). They must never be taken for volumes of one run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord, Frame

K = TypeVar("K", bound=Hashable)

# Complex Image Component (PS3.3 C.8.13.3.1.2) and the words that vendors put into ImageType for the same.
_COMPONENTS = {
    **dict.fromkeys(("M", "MAGNITUDE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
}
MAGNITUDE = "magnitude"


@dataclass(frozen=True, slots=True)
class Kind:
    """component : magnitude, phase, real, imaginary, or mixed. corrected : the scanner corrected it for motion."""

    component: str = MAGNITUDE
    corrected: bool = False

    def __str__(self) -> str:
        return f"motion-corrected {self.component}" if self.corrected else self.component


def kind_of(record: DicomRecord) -> Kind:
    """Of one object. What does not say is magnitude, as scanners have it by default."""
    words = [word.upper() for word in record.image_type[2:]]
    stated = record.component.upper()
    found = {_COMPONENTS[word] for word in words if word in _COMPONENTS}
    component = "mixed" if stated == "MIXED" else _COMPONENTS.get(stated)
    if component is None:
        component = MAGNITUDE if MAGNITUDE in found or not found else min(found)
    return Kind(component, "MOCO" in words)


def is_magnitude(frame: Frame) -> bool:
    """Of one frame of an enhanced object, whose frames may be of several components."""
    return _COMPONENTS.get(frame.component.upper(), MAGNITUDE) == MAGNITUDE


def preferred(records: Mapping[K, DicomRecord]) -> tuple[list[K], str | None]:
    """Which of a folder's objects are the run, and, where others were left out, a sentence that says which.

    Magnitudes are the run; of those the raw before the motion-corrected, since Mindsight corrects by itself and knows
    how well it went.

    Raises BadVolume: no magnitudes, or several series of them.
    """
    kinds = {key: kind_of(record) for key, record in records.items()}
    magnitudes = {key: kind for key, kind in kinds.items() if kind.component in (MAGNITUDE, "mixed")}
    if not magnitudes:
        raise BadVolume(
            f"expected magnitude images, got {_counted(list(kinds.values()))}; send the magnitudes of the run",
            code="series.no_magnitude",
        )
    raw = [key for key, kind in magnitudes.items() if not kind.corrected]
    chosen = raw or list(magnitudes)
    n_series = len({records[key].series for key in chosen})
    if n_series > 1:
        raise BadVolume(
            f"expected one series in the folder, got {n_series}; give each a folder of its own", code="series.several"
        )
    taken = set(chosen)
    left = [kind for key, kind in kinds.items() if key not in taken]
    note = f"chose {_counted([kinds[key] for key in chosen])}; left {_counted(left)}" if left else None
    return chosen, note


def _counted(kinds: list[Kind]) -> str:
    return " and ".join(f"{count} {kind} image{'s' * (count > 1)}" for kind, count in Counter(kinds).items())
