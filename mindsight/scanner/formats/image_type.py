"""The kind of a DICOM object's values: magnitude or phase, acquired or computed by the scanner.

Knows nothing of files, pixels or names: it reads only coded words, since a series' description may identify a person.

Scanners send the same run more than once: magnitude and phase (Philips in one series, Siemens in two), raw and
motion-corrected (Siemens in two), every echo. They also send images that they computed from it: statistical maps,
means, reformats. None of these may be taken for volumes of the run.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord, Frame
from mindsight.scanner.formats.slice_locations import followed_locations

K = TypeVar("K", bound=Hashable)

# Complex Image Component (PS3.3 C.8.13.3.1.2) and the words that vendors put into ImageType for the same.
_COMPONENTS = {
    **dict.fromkeys(("M", "MAGNITUDE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
}
MAGNITUDE = "magnitude"

# Words of ImageType for images that are not a run, as scanners write them, without separators.
_COMPUTED = {
    "statistical map": r"([TFZRP]|BETA|CORR|STAT|SPM|FMRI|ACTIVATION)MAPS?|[TFZ]TEST|GLM|STATISTICS?|STATMAPS?",
    "mean": r"MEAN|MEANMAPS?|AVERAGE|STDDEV|STDEV|VARIANCE",
    "map": r"E?ADC|EXPADC|TRACEW?|FA|COLFA|TENSOR|DIFFUSIONTENSOR|[RT][12]S?(STAR)?\*?MAPS?|B[01]MAPS?|FIELDMAPS?"
    r"|PERFUSIONMAPS?|REL(CBF|CBV|MTT)|CB[FV]|MTT|TTP|TMAX|VELOCITYMAPS?|QUANTITY",
    "reformat": r"MPR|MPRTHICK|MPRTHIN|CPR|MIP|MINIP|PROJECTIONIMAGE|REFORMATTED|RESAMPLED|CSARESAMPLED|VRT|VOLREN"
    r"|SUBTRACTION|SUBTRACTED",
    "localiser": r"LOCALI[SZ]ER|SCOUT|SURVEY",
    "reference": r"SBREF|SINGLEBANDREF|REFERENCE",
    "screenshot": r"SCREENSAVE|SCREENSHOT|SCREENCAPTURE|SECONDARYCAPTURE|REPORT|CURVE|GSPS",
    "recording of physiology": r"PHYSIO(LOG)?|RAWDATA|SPECTROSCOPY",
}
_NO_SERIES = hashlib.sha256(b"").hexdigest()
_COMPUTED_WORDS = {name: re.compile(words) for name, words in _COMPUTED.items()}


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of an image.

    component : magnitude, phase, real, imaginary, or mixed
    corrected : the scanner corrected it for motion
    computed : kind of image that is not a run: ``statistical map``, ``localiser``...; empty for a run
    derived : the scanner calls it derived, as it does with some runs too (filtered, distortion-corrected)
    """

    component: str = MAGNITUDE
    corrected: bool = False
    computed: str = ""
    derived: bool = False

    def __str__(self) -> str:
        if self.computed:
            return self.computed
        derived = "derived " if self.derived and not self.corrected else ""
        return derived + (f"motion-corrected {self.component}" if self.corrected else self.component)


def kind_of(record: DicomRecord) -> Kind:
    """The kind of one DICOM object; magnitude if unstated, as is the scanners' default."""
    words = [word.upper() for word in record.image_type[2:]]
    stated = record.component.upper()
    found = {_COMPONENTS[word] for word in words if word in _COMPONENTS}
    component = "mixed" if stated == "MIXED" else _COMPONENTS.get(stated)
    if component is None:
        component = MAGNITUDE if MAGNITUDE in found or not found else min(found)
    plain = [re.sub(r"[^A-Z0-9*]", "", word) for word in words]
    computed = (name for name, known in _COMPUTED_WORDS.items() if any(known.fullmatch(word) for word in plain))
    derived = bool(record.image_type) and record.image_type[0].upper() == "DERIVED"
    return Kind(component, "MOCO" in words, next(computed, ""), derived)


def is_magnitude(frame: Frame) -> bool:
    """Whether a frame of an enhanced object is a magnitude; its frames may differ."""
    return _COMPONENTS.get(frame.component.upper(), MAGNITUDE) == MAGNITUDE


def series_key(record: DicomRecord) -> str:
    """Key of an object's series: the UID if stated, otherwise the grid and the kind of image."""
    if record.series != _NO_SERIES:
        return record.series
    frame = record.frames[0]
    turned = tuple(round(cosine, 3) for cosine in frame.orientation or ())
    return f"{record.rows} {record.columns} {record.tr_s} {turned} {record.image_type} {record.component}"


def preferred(records: Mapping[K, DicomRecord]) -> tuple[list[K], str | None]:
    """Which of a folder's objects are the run, and a note if others were left out.

    Magnitudes are the run. Raw ones are preferred to motion-corrected ones, since Mindsight corrects motion itself and
    reports how well; acquired to derived images; and a series of volumes to single ones (localiser, single-band
    reference). A single series is taken whatever its label. The result may hold series that differ only in their echo.

    Raises BadVolume for no magnitudes, or several series of them.
    """
    kinds = {key: kind_of(record) for key, record in records.items()}
    acquired = [key for key, kind in kinds.items() if not kind.computed] or list(kinds)
    magnitudes = [key for key in acquired if kinds[key].component in (MAGNITUDE, "mixed")]
    if not magnitudes:
        raise BadVolume(
            f"expected magnitude images, got {_counted(map(str, kinds.values()))}; send the magnitudes of the run",
            code="series.no_magnitude",
        )
    raw = [key for key in magnitudes if not kinds[key].corrected]
    chosen = raw or magnitudes
    if len({series_key(records[key]) for key in chosen}) > 1:
        chosen = [key for key in chosen if not kinds[key].derived] or chosen
    chosen = _one_run(chosen, records)
    taken = set(chosen)
    left = [str(kind) for key, kind in kinds.items() if key not in taken]
    note = f"chose {_counted(str(kinds[key]) for key in chosen)}; left out {_counted(left)}" if left else None
    return chosen, note


def _one_run(keys: list[K], records: Mapping[K, DicomRecord]) -> list[K]:
    """The objects of the one series that forms a run, with its echoes. Raises BadVolume."""
    series: dict[str, list[K]] = {}
    for key in keys:
        series.setdefault(series_key(records[key]), []).append(key)
    if len(series) > 1:
        long = {name: members for name, members in series.items() if not _is_single([records[key] for key in members])}
        series = long or series
    firsts = [records[members[0]] for members in series.values()]
    if len(firsts) > 1 and not _are_echoes(firsts):
        raise BadVolume(
            f"expected one series in the folder, got {len(firsts)}; put each into a separate folder",
            code="series.several",
        )
    return [key for members in series.values() for key in members]


def _is_single(records: list[DicomRecord]) -> bool:
    """Whether the objects are one volume: each echo has each location once, which may move between volumes."""
    frames = [frame for record in records for frame in record.frames]
    if len(records) == len(frames) == 1 and "MOSAIC" not in records[0].image_type:
        return False
    if len({frame.temporal_position for frame in frames} - {None}) > 1:
        return False
    by_echo: dict[Hashable, list[DicomRecord]] = {}
    for record in records:
        by_echo.setdefault((record.frames[0].echo_number, record.frames[0].echo_time_ms), []).append(record)
    if len(frames) > len(records) or "MOSAIC" in records[0].image_type:
        met = Counter((frame.position_mm, frame.echo_number, frame.echo_time_ms) for frame in frames)
        return max(met.values()) == 1 and max(map(len, by_echo.values())) == 1
    try:
        return all(len(set(followed_locations(one))) == len(one) for one in by_echo.values())
    except BadVolume:  # slices without a position; reading them raises the error
        return False


def _are_echoes(firsts: list[DicomRecord]) -> bool:
    """Whether the objects, one per series, are echoes of one run: they differ only in the echo, at the same time."""
    grids = {(one.rows, one.columns, one.tr_s, one.frames[0].orientation) for one in firsts}
    numbers = {one.frames[0].echo_number for one in firsts}
    times_ms = {one.frames[0].echo_time_ms for one in firsts}
    clocks = [one.frames[0].acquired_s for one in firsts]
    known = [clock for clock in clocks if clock is not None]
    at_once = len(known) < len(firsts) or max(known) - min(known) <= (firsts[0].tr_s or 0.0)
    counted = len(numbers) == len(firsts) and None not in numbers
    timed = len(times_ms) == len(firsts) and None not in times_ms and len(known) == len(firsts)
    return len(grids) == 1 and at_once and (counted or timed)


def _counted(kinds: Iterable[str]) -> str:
    return " and ".join(f"{count} {kind} image{'s' * (count > 1)}" for kind, count in Counter(kinds).items())
