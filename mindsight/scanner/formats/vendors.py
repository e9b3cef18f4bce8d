"""The vendors' private elements: mosaics (Siemens), clocks and counts (GE), scales and counts (Philips).

Knows nothing of files. A private element is read only if it is needed: a CSA header only in mosaics.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mindsight.scanner.formats.allowed import Allowed
from mindsight.scanner.formats.csa import read_csa
from mindsight.scanner.formats.written import ABSURD, texts, whole

_GE_COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Number of slices, slice normal (LPS), slice times, and whether the CSA header could be read (None: no header)."""

    slices: int | None = None
    normal: tuple[float, ...] | None = None
    times_ms: tuple[float, ...] | None = None
    readable: bool | None = None


def siemens_mosaic(head: Allowed) -> Mosaic:
    """A mosaic's fields from the CSA header, else from the open elements: there are as many slice times as slices."""
    headers = [read_csa(header) for header in head.private_bytes("csa")]
    csa = next((found for found in headers if found is not None), None)
    slices = csa.slices if csa else None
    times_ms = csa.times_ms if csa else None
    if times_ms is None:
        times_ms = head.private_numbers("mosaic_times")
    if slices is None:
        slices = whole(head.private_number("mosaic_slices")) or (len(times_ms) if times_ms and csa is None else None)
    return Mosaic(
        slices=slices,
        normal=csa.normal if csa else None,
        times_ms=times_ms,
        readable=None if not headers else csa is not None,
    )


def unnamed_mosaic(head: Allowed, image_type: tuple[str, ...]) -> bool:
    """Whether an object is a mosaic although its image type, shortened by an export, does not say so."""
    if (whole(head.private_number("mosaic_slices")) or 0) > 1:
        return True
    if len(image_type) > 2:
        return False
    headers = (read_csa(header) for header in head.private_bytes("csa"))
    return any(csa is not None and (csa.slices or 0) > 1 for csa in headers)


def is_uih_grid(head: Allowed) -> bool:
    """Whether an object of United Imaging holds several slices as tiles."""
    return (whole(head.private_number("uih_grid")) or 0) > 1


def siemens_type(head: Allowed, shared: Allowed | None) -> tuple[str, ...]:
    """ImageType4MF of the object, or of the first frame with one."""
    own = next(head.items("PerFrameFunctionalGroupsSequence"), None) if shared is not None else None
    for groups in (head, own, shared):
        if groups is None:
            continue
        for holder in (groups, *groups.private_items("siemens_frame")):
            words = texts(holder.private("siemens_type"))
            if words:
                return words
    return ()


def ge_component(head: Allowed) -> str:
    """DICOM's word for GE's number; empty if there is none."""
    number = whole(head.private_number("ge_component"))
    return _GE_COMPONENTS[number] if number is not None and 0 <= number < len(_GE_COMPONENTS) else ""


def ge_delay_s(head: Allowed) -> float:
    """The pause after each volume, which GE's RepetitionTime leaves out."""
    return max(head.private_number("ge_delay") or 0.0, 0.0)


def ge_clock(head: Allowed) -> tuple[float | None, tuple[float, ...]]:
    """A slice's time from the RTIA timer, else from the trigger time, with its possible units in seconds.

    The timer counts seconds or, in older versions, ten thousandths. The trigger time (ms) of multi-band runs is wrong:
    it differs between all slices. Both were found by the authors of dcm2niix (notes on GE, "Slice Timing").
    """
    if head.private("ge_component") is None and head.private("ge_timer") is None:
        return None, ()  # not GE: Philips' trigger times are those of the heart
    timer, trigger_ms = head.private_number("ge_timer"), head.number("TriggerTime")
    multiband = re.match(r"\d{1,3}", "".join(texts(head.private("ge_multiband"))[:1]))
    if trigger_ms is not None and not timer and not (multiband and int(multiband[0]) > 1):
        return trigger_ms, (1e-3,)
    return (None, ()) if timer is None else (timer, (1.0, 1e-4))


def slices_per_volume(head: Allowed) -> int | None:
    """GE's count of locations, else Philips' of slices, else the public count, which GE sometimes multiplies."""
    counts = (head.private_number("ge_slices"), head.private_number("philips_slices"))
    for count in (*map(whole, counts), head.integer("ImagesInAcquisition")):
        if count is not None and count > 0:
            return count
    return None


def philips_scaling(groups: Allowed, slope: float, intercept: float) -> tuple[float, float] | None:
    """Slope and intercept from stored values to the signal, as in a PAR file; None if Philips states no scale.

    slope, intercept : of the public rescaling

    (stored × RS + RI) / (RS × SS): RS and RI are chosen per image for the display; only SS brings values of different
    images to one unit.
    """
    holders = (groups, *groups.private_items("philips_frame"))
    scale = next((found for holder in holders if (found := holder.private_number("philips_scale")) is not None), None)
    if scale is None or scale <= 0.0 or 1.0 / scale > ABSURD or (slope == 0.0 and intercept != 0.0):
        return None
    return 1.0 / scale, intercept / (slope * scale) if intercept else 0.0


_VENDORS = {
    "Siemens": "SIEMENS",
    "GE": "GE MEDICAL|GE HEALTHCARE|^GE$",
    "Philips": "PHILIPS",
    "Canon": "CANON|TOSHIBA",
    "United Imaging": "UIH|UNITED IMAGING",
    "Bruker": "BRUKER",
    "Hitachi": "HITACHI|FUJIFILM",
}


def vendor_of(head: Allowed) -> str:
    """One of the known names, never the text itself; empty if the vendor is unknown."""
    stated = head.text("Manufacturer").upper()
    return next((name for name, words in _VENDORS.items() if re.search(words, stated)), "")
