"""DICOM bytes → the few fields that a volume needs. Identity stops here: what is not on the allow-list is never read.

Knows nothing of mosaics, series or files. No other file of Mindsight opens a DICOM data set.

The list is stricter than the basic profile of DICOM PS3.15 Annex E, which removes what is known to identify; here only
what is known to be needed passes. Acquisition date and time pass because the volumes' clock needs them; they become one
number of seconds. A series' UID becomes a digest that serves to tell series apart while reading. No message of an
error holds a value of the file.
"""

from __future__ import annotations

import functools
import hashlib
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any, NoReturn

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from mindsight.errors import BadVolume
from mindsight.scanner.rle import decode_frame

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls all of nicom experimental; the CSA parser is what we take of it
    from nibabel.nicom import csareader

ALLOWED = frozenset(
    {
        # which series, which file of it
        *("SOPClassUID", "SeriesInstanceUID", "Modality", "ImageType", "AcquisitionNumber", "InstanceNumber"),
        *("TemporalPositionIdentifier", "ImagesInAcquisition", "ComplexImageComponent"),
        # when
        *("RepetitionTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "TimezoneOffsetFromUTC"),
        *("TriggerTime", "EchoTime", "EchoNumbers"),
        # where
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
        # the voxels
        *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "PixelData"),
        *("RescaleSlope", "RescaleIntercept"),
        # where the same is found in an enhanced multi-frame object
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "MRTimingAndRelatedParametersSequence"),
        *("FrameContentSequence", "FrameAcquisitionDateTime", "TemporalPositionIndex", "PlanePositionSequence"),
        *("PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence"),
        *("MRImageFrameTypeSequence", "MREchoSequence", "EffectiveEchoTime"),
    }
)
"""Keywords of the DICOM elements that are read."""

ALLOWED_PRIVATE = {
    "csa": (0x0029, "SIEMENS CSA HEADER", 0x10),
    "mosaic_slices": (0x0019, "SIEMENS MR HEADER", 0x0A),
    "mosaic_times": (0x0019, "SIEMENS MR HEADER", 0x29),
    "siemens_type": (0x0021, "SIEMENS MR SDI 02", 0x75),  # ImageType4MF: what ImageType was before XA
    "siemens_frame": (0x0021, "SIEMENS MR SDI 02", 0xFE),
    "philips_slices": (0x2001, "Philips Imaging DD 001", 0x18),
    "ge_component": (0x0043, "GEMS_PARM_01", 0x2F),
    "ge_multiband": (0x0043, "GEMS_PARM_01", 0xB6),
    "ge_delay": (0x0043, "GEMS_PARM_01", 0x7C),
    "ge_timer": (0x0021, "GEMS_RELA_01", 0x5E),
}
"""Private elements that are read: group, creator, element in the creator's block."""

ALLOWED_CSA = ("NumberOfImagesInMosaic", "SliceNormalVector", "MosaicRefAcqTimes")
"""Fields of Siemens' CSA image header that are read."""

MAX_FRAMES = 32_768  # a whole run in one object
MAX_SIDE_PIXELS = 16_384
MAX_RLE_RATIO = 64
_ABSURD = 1e12  # no millimetre, millisecond or slope is so large; not a number is no smaller either

_IMPLICIT_LITTLE, _EXPLICIT_LITTLE, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_GE_COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
_BLOCKS = range(0x10, 0x20)
# What pydicom and nibabel raise on bytes that are not what they claim to be; neither has one exception of its own.
_PARSER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError),
    *(OSError, RecursionError, TypeError, ValueError, struct.error, BytesLengthException, InvalidDicomError),
    csareader.CSAReadError,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a DICOM object; None where the object does not say.

    position_mm, row_direction and column_direction are in DICOM's patient frame (LPS). spacing_mm is (down a column,
    along a row), as in PixelSpacing. component is DICOM's word (``PHASE``), empty where the frame has none of its own.
    echo_number counts the echoes of one excitation from 1; enhanced objects state the echo's time alone.
    """

    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slice_spacing_mm: float | None
    slope: float
    intercept: float
    acquired_s: float | None
    temporal_position: int | None
    component: str
    echo_time_ms: float | None = None
    echo_number: int | None = None


@dataclass(frozen=True, slots=True)
class DicomRecord:
    """All that Mindsight ever knows of a DICOM object.

    series : digest that tells series apart, never kept
    image_type : the words of ImageType, then those of Siemens' ImageType4MF, where there is one
    component : DICOM's word for magnitude, phase, real or imaginary; empty where neither it nor GE's number is there
    pixels : raw little-endian values, frame by frame, row by row; empty where only the header was read
    images_in_acquisition : slices of one volume, where GE or Philips say so
    csa_* : from Siemens' private header, None elsewhere; times in milliseconds
    slice_clock : when the slice was acquired, by GE's clocks, in GE's unit (one of ``slice_clock_units_s``); else None
    """

    series: str
    modality: str
    image_type: tuple[str, ...]
    sop_class: str
    acquisition_number: int | None
    instance_number: int | None
    images_in_acquisition: int | None
    tr_s: float | None
    rows: int
    columns: int
    dtype: str
    frames: tuple[Frame, ...]
    csa_slices: int | None
    csa_normal: tuple[float, ...] | None
    csa_times_ms: tuple[float, ...] | None
    slice_clock: float | None
    slice_clock_units_s: tuple[float, ...]
    component: str
    pixels: bytes


def read_dicom(data: bytes, *, header_only: bool = False) -> DicomRecord:
    """The record of one DICOM object.

    Raises BadVolume: not DICOM, truncated, compressed, or without an element that every image has.
    """
    if data[128:132] != b"DICM":
        _refuse("not_dicom", "expected a DICOM file (DICM at byte 128), got something else")
    if _DEFLATED in data:  # before pydicom inflates it, to whatever size
        _refuse("compressed", "expected uncompressed DICOM, got a deflated file; export without compression")
    try:
        # pydicom warns of every oddity of a header, most of them in elements that we drop.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(BytesIO(data), specific_tags=[*_tags(header_only)])
            return _record(dataset, header_only)
    except _PARSER_ERRORS:
        pass  # raised below, so that no exception of the parser (which may quote the file) hangs on to ours
    _refuse("unreadable", "expected a whole, well-formed DICOM file, got one that does not parse; send it again")


def _refuse(what: str, message: str) -> NoReturn:
    raise BadVolume(message, code=f"dicom.{what}")


@functools.cache
def _tags(header_only: bool) -> list[BaseTag]:
    tags = [Tag(keyword) for keyword in ALLOWED if not (header_only and keyword == "PixelData")]
    for group, _, element in ALLOWED_PRIVATE.values():
        for block in _BLOCKS:
            tags += [Tag(group, block), Tag(group, block << 8 | element)]
    return tags


class _Allowed:
    """A data set of which only what is on the lists can be seen."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def value(self, keyword: str) -> Any:
        if keyword not in ALLOWED:
            raise LookupError(keyword)
        return self._dataset.get(keyword)

    def private_items(self, name: str) -> Iterator[_Allowed]:
        found = self.private(name)
        for item in found if isinstance(found, Sequence) else ():
            yield _Allowed(item)

    def private(self, name: str) -> Any:
        group, creator, element = ALLOWED_PRIVATE[name]
        for block in _BLOCKS:
            reserved = self._dataset.get(Tag(group, block))
            if reserved is not None and str(reserved.value).strip() == creator:
                found = self._dataset.get(Tag(group, block << 8 | element))
                return None if found is None else found.value
        return None

    def text(self, keyword: str) -> str:
        value = self.value(keyword)
        return "" if value is None else str(value).strip()

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        return _numbers(self.value(keyword), count)

    def number(self, keyword: str) -> float | None:
        numbers = self.numbers(keyword, 1)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        number = self.number(keyword)
        return None if number is None else int(number)

    def items(self, keyword: str) -> Iterator[_Allowed]:
        for item in self.value(keyword) or ():
            yield _Allowed(item)


def _numbers(value: Any, count: int | None) -> tuple[float, ...] | None:
    """Finite numbers, or None where the element is absent or empty, or has another count or absurd values."""
    if value is None or isinstance(value, bytes) or value == "":
        return None
    values = [value] if isinstance(value, (int, float, str)) else list(value)
    numbers = tuple(float(number) for number in values)
    if (count is not None and len(numbers) != count) or not all(abs(number) < _ABSURD for number in numbers):
        return None
    return numbers


def _record(dataset: Dataset, header_only: bool) -> DicomRecord:
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in (_IMPLICIT_LITTLE, _EXPLICIT_LITTLE, _RLE):
        _refuse("compressed", "expected uncompressed little-endian DICOM, or RLE, got another; export uncompressed")
    head = _Allowed(dataset)
    rows, columns, bits = head.integer("Rows"), head.integer("Columns"), head.integer("BitsAllocated")
    if not rows or not columns or bits not in (8, 16, 32) or head.integer("SamplesPerPixel") != 1:
        _refuse("no_image", "expected a grey-scale image of 8, 16 or 32 bits, got none (or a truncated header)")
    if max(rows, columns) > MAX_SIDE_PIXELS:
        _refuse("no_image", f"expected at most {MAX_SIDE_PIXELS} rows and columns")
    n_frames = head.integer("NumberOfFrames") or 1
    if not 1 <= n_frames <= MAX_FRAMES:
        _refuse("no_image", f"expected 1 to {MAX_FRAMES} frames, got {n_frames}")
    if header_only:
        pixels = b""
    elif syntax == _RLE:
        pixels = _unpacked(head, n_frames, rows * columns, bits // 8)
    else:
        pixels = _pixels(head, n_frames * rows * columns * bits // 8)
    shared = next(head.items("SharedFunctionalGroupsSequence"), None)
    slices, normal, times_ms = _siemens(head)
    clock, units_s = _ge_clock(head)
    return DicomRecord(
        series=hashlib.sha256(head.text("SeriesInstanceUID").encode()).hexdigest(),
        modality=head.text("Modality"),
        image_type=_texts(head.value("ImageType")) + _siemens_type(head, shared),
        sop_class=head.text("SOPClassUID"),
        acquisition_number=head.integer("AcquisitionNumber"),
        instance_number=head.integer("InstanceNumber"),
        images_in_acquisition=_slices_per_volume(head),
        tr_s=_tr_s(head, shared),
        rows=rows,
        columns=columns,
        dtype=f"<{'i' if head.integer('PixelRepresentation') else 'u'}{bits // 8}",
        frames=_frames(head, shared, n_frames),
        csa_slices=slices,
        csa_normal=normal,
        csa_times_ms=times_ms,
        slice_clock=clock,
        slice_clock_units_s=units_s,
        component=_component(head),
        pixels=pixels,
    )


def _tr_s(head: _Allowed, shared: _Allowed | None) -> float | None:
    """Seconds from volume to volume; GE's RepetitionTime leaves out the pause after each (group delay, seconds)."""
    tr_ms = head.number("RepetitionTime")
    if tr_ms is None and shared is not None:
        tr_ms = next((group.number("RepetitionTime") for group in _timing(shared)), None)
    if tr_ms is None:
        return None
    delay_s = _numbers(head.private("ge_delay"), 1)
    return tr_ms / 1000.0 + (delay_s[0] if delay_s and delay_s[0] > 0.0 else 0.0)


def _component(head: _Allowed) -> str:
    component = head.text("ComplexImageComponent")
    number = _numbers(head.private("ge_component"), 1)
    if not component and number and number[0] in range(len(_GE_COMPONENTS)):
        return _GE_COMPONENTS[int(number[0])]
    return component


def _siemens_type(head: _Allowed, shared: _Allowed | None) -> tuple[str, ...]:
    """Of the object, or of the first frame that has one."""
    own = next(head.items("PerFrameFunctionalGroupsSequence"), None) if shared is not None else None
    for groups in (head, own, shared):
        if groups is None:
            continue
        for place in (groups, *groups.private_items("siemens_frame")):
            words = place.private("siemens_type")
            if words:
                return _texts(words)
    return ()


def _ge_clock(head: _Allowed) -> tuple[float | None, tuple[float, ...]]:
    """A slice's time by the RTIA timer, else by the trigger time, with the units it may have in seconds.

    The timer counts seconds or, in older versions, ten thousandths. The trigger time (ms) of multi-band runs is wrong:
    all slices at different times. Both as found by dcm2niix's authors (its notes on GE, "Slice Timing").
    """
    if head.private("ge_component") is None and head.private("ge_timer") is None:
        return None, ()  # no GE: Philips' trigger times are the heart's
    timer, trigger_ms = _numbers(head.private("ge_timer"), 1), head.number("TriggerTime")
    multiband = re.match(r"\d{1,3}", "".join(_texts(head.private("ge_multiband"))[:1]))
    if trigger_ms is not None and not (timer and timer[0]) and not (multiband and int(multiband[0]) > 1):
        return trigger_ms, (1e-3,)
    return (timer[0], (1.0, 1e-4)) if timer else (None, ())


def _slices_per_volume(head: _Allowed) -> int | None:
    count = head.integer("ImagesInAcquisition")
    if count is None:
        numbers = _numbers(head.private("philips_slices"), 1)
        count = None if numbers is None else int(numbers[0])
    return count if count is not None and count > 0 else None


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, bytes):  # a private element that is not said to be text
        value = value.decode("ascii", "ignore").strip("\0 ").split("\\")
    return (value,) if isinstance(value, str) else tuple(str(part) for part in value)


def _pixels(head: _Allowed, expected_bytes: int) -> bytes:
    pixels = head.value("PixelData")
    # An odd number of bytes is padded to an even one (PS3.5 section 8).
    if not isinstance(pixels, bytes) or len(pixels) not in (expected_bytes, expected_bytes + expected_bytes % 2):
        got = len(pixels) if isinstance(pixels, bytes) else 0
        _refuse(
            "truncated",
            f"expected {expected_bytes} bytes of pixel data, got {got}; wait until the file is whole and send it again",
        )
    return pixels[:expected_bytes]


def _unpacked(head: _Allowed, n_frames: int, n_pixels: int, bytes_per_pixel: int) -> bytes:
    """The pixels of RLE-compressed data; a header that promises more than such data can hold is refused first."""
    encoded = head.value("PixelData")
    if not isinstance(encoded, bytes) or n_frames * n_pixels * bytes_per_pixel > MAX_RLE_RATIO * len(encoded):
        _refuse("truncated", "expected RLE-compressed pixel data for all frames; send the file again")
    frames = list(generate_frames(encoded, number_of_frames=n_frames))
    if len(frames) != n_frames:
        _refuse("truncated", f"expected {n_frames} compressed frames, got {len(frames)}; send the file again")
    return b"".join(decode_frame(frame, n_pixels, bytes_per_pixel) for frame in frames)


def _frames(head: _Allowed, shared: _Allowed | None, n_frames: int) -> tuple[Frame, ...]:
    if shared is None:
        if n_frames != 1:
            _refuse("layout", f"expected an enhanced multi-frame object or a single frame, got {n_frames} plain frames")
        spacing = head.number("SpacingBetweenSlices")
        frame = Frame(
            position_mm=head.numbers("ImagePositionPatient", 3),
            orientation=head.numbers("ImageOrientationPatient", 6),
            spacing_mm=head.numbers("PixelSpacing", 2),
            slice_spacing_mm=head.number("SliceThickness") if spacing is None else spacing,
            acquired_s=_acquired_s(head),
            temporal_position=head.integer("TemporalPositionIdentifier"),
            component="",
            echo_time_ms=head.number("EchoTime"),
            echo_number=head.integer("EchoNumbers"),
            **_rescale(head),
        )
        return (frame,)
    frames = tuple(_enhanced_frame(shared, own, head) for own in head.items("PerFrameFunctionalGroupsSequence"))
    if len(frames) != n_frames:
        _refuse("truncated", f"expected {n_frames} frames to be described, got {len(frames)}; send the file again")
    return frames


def _enhanced_frame(shared: _Allowed, own: _Allowed, head: _Allowed) -> Frame:
    """One frame of an enhanced object: each macro is in the frame's own groups or the shared (PS3.3 C.7.6.16)."""

    def macro(keyword: str) -> _Allowed:
        for groups in (own, shared):
            for item in groups.items(keyword):
                return item
        return _Allowed(Dataset())

    content, measures = macro("FrameContentSequence"), macro("PixelMeasuresSequence")
    spacing = measures.number("SpacingBetweenSlices")
    moment = content.text("FrameAcquisitionDateTime")
    return Frame(
        position_mm=macro("PlanePositionSequence").numbers("ImagePositionPatient", 3),
        orientation=macro("PlaneOrientationSequence").numbers("ImageOrientationPatient", 6),
        spacing_mm=measures.numbers("PixelSpacing", 2),
        slice_spacing_mm=measures.number("SliceThickness") if spacing is None else spacing,
        acquired_s=_seconds(moment[:8], moment[8:], head.text("TimezoneOffsetFromUTC")) if moment else None,
        temporal_position=content.integer("TemporalPositionIndex"),
        component=macro("MRImageFrameTypeSequence").text("ComplexImageComponent"),
        echo_time_ms=macro("MREchoSequence").number("EffectiveEchoTime"),
        **_rescale(macro("PixelValueTransformationSequence")),
    )


def _rescale(head: _Allowed) -> dict[str, Any]:
    slope, intercept = head.number("RescaleSlope"), head.number("RescaleIntercept")
    return {"slope": 1.0 if slope is None else slope, "intercept": 0.0 if intercept is None else intercept}


def _timing(shared: _Allowed) -> Iterator[_Allowed]:
    return shared.items("MRTimingAndRelatedParametersSequence")


def _siemens(head: _Allowed) -> tuple[int | None, tuple[float, ...] | None, tuple[float, ...] | None]:
    """Slices in the mosaic, slice normal (LPS), slice times in ms: from the CSA header, else from the open elements."""
    csa = head.private("csa")
    parse: Any = csareader.read  # untyped
    tags = parse(csa)["tags"] if isinstance(csa, bytes) and csa else {}

    def csa_numbers(name: str, count: int | None) -> tuple[float, ...] | None:
        assert name in ALLOWED_CSA
        items = [item for item in tags[name]["items"] if item is not None] if name in tags else []
        return _numbers(items, count) if items else None

    slices = csa_numbers("NumberOfImagesInMosaic", 1) or _numbers(head.private("mosaic_slices"), 1)
    times = csa_numbers("MosaicRefAcqTimes", None) or _numbers(head.private("mosaic_times"), None)
    return None if slices is None else int(slices[0]), csa_numbers("SliceNormalVector", 3), times


def _acquired_s(head: _Allowed) -> float | None:
    moment = head.text("AcquisitionDateTime")
    if moment:
        return _seconds(moment[:8], moment[8:], head.text("TimezoneOffsetFromUTC"))
    return _seconds(head.text("AcquisitionDate"), head.text("AcquisitionTime"), head.text("TimezoneOffsetFromUTC"))


def _seconds(date: str, time: str, zone: str) -> float | None:
    """Seconds since the Unix epoch; of the day where the date was blanked; None without a time.

    The scanner's local time is taken for UTC unless the file names its offset (``+0100``, in the time or in ``zone``).
    """
    match = re.match(r"^(\d\d)(\d\d)?(\d\d)?(\.\d{1,6})?\s*([+-]\d{4})?$", time)
    if not match:
        return None
    hours, minutes, seconds, fraction, offset = match.groups()
    of_day = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(fraction or 0)
    if not re.match(r"^\d{8}$", date):
        return of_day
    offset = offset or (zone if re.match(r"^[+-]\d{4}$", zone) else "+0000")
    away = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])) * (-1 if offset[0] == "-" else 1)
    midnight = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC) - away
    return midnight.timestamp() + of_day
