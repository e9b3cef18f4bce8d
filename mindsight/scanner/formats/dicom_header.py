"""DICOM bytes → the few fields that a volume needs. Identity stops here: what is not on the allow-list is never read.

Knows nothing of mosaics, series or files. No other file of Mindsight opens a DICOM data set. ``allowed.py`` has the
list and the view through which all fields are read; ``elements.py`` reads the listed elements of most objects quickly
(pydicom parses the others); ``dicom_frames.py``, ``vendors.py`` and ``pixels.py`` interpret them. None of these can see
an element that the list does not name.

The list is stricter than the basic profile of DICOM PS3.15 Annex E: that removes what is known to identify, this passes
only what is known to be needed. Acquisition date and time pass because the volumes' clock needs them; they become one
number of seconds. A series' UID becomes a digest that identifies the series while reading. No error message holds a
value of the file.
"""

from __future__ import annotations

import functools
import hashlib
import re
import warnings
from collections.abc import Iterable
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from mindsight.errors import BadVolume
from mindsight.scanner.formats.allowed import ALLOWED, ALLOWED_PRIVATE, Allowed, private_tags
from mindsight.scanner.formats.dicom_frames import enhanced_frames, plain_frame
from mindsight.scanner.formats.dicom_record import DicomRecord, Frame
from mindsight.scanner.formats.elements import Codec, Elements, usual_elements
from mindsight.scanner.formats.pixels import stored_values
from mindsight.scanner.formats.rle import decode_frame
from mindsight.scanner.formats.vendors import (
    Mosaic,
    ge_clock,
    ge_component,
    ge_delay_s,
    is_uih_grid,
    siemens_mosaic,
    siemens_type,
    slices_per_volume,
    unnamed_mosaic,
    vendor_of,
)

__all__ = ["ALLOWED", "ALLOWED_PRIVATE", "DicomRecord", "Frame", "read_dicom"]

MAX_FRAMES = 32_768  # a whole run in one object
MAX_SIDE_PIXELS = 16_384
MAX_RLE_RATIO = 64
MAX_REPEATED_BYTES = 64

_STORAGE = "1.2.840.10008.5.1.4.1.1"
# Classes of objects other than images that scanners send and export, with their subclasses: media directories,
# secondary captures, raw data and segmentations, reports, documents, presentation states, spectra, waveforms,
# radiotherapy, and Siemens' own (including recordings of physiology).
_NO_MR_IMAGES = (
    "1.2.840.10008.1.3.10",
    *(f"{_STORAGE}.{number}" for number in ("7", "66", "88", "104", "11", "4.2", "9", "481")),
    "1.3.12.2.1107.5.9.1",
)
_IMPLICIT_LITTLE, _EXPLICIT_LITTLE, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
_EXPLICIT_BIG, _RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
_INTEGERS, _FLOATS = _PIXELS = ("PixelData", "FloatPixelData")
_FIRST_GROUPS = (b"\x02\0", b"\x08\0")  # file meta information, or the data set itself
_VRS = re.compile(rb"[A-Z]{2}")
_MAX_FIRST_BYTES = 1024  # of the value of an object's first element


def begins_as_dicom(data: bytes) -> bool:
    """Whether a file begins like DICOM. Older exports have no preamble, or no file meta information either."""
    if data[128:132] == b"DICM":
        return True
    if data[:2] not in _FIRST_GROUPS or data[3:4] not in (b"\0", b"\x10") or len(data) < 132:
        return False
    return _VRS.fullmatch(data[4:6]) is not None or int.from_bytes(data[4:8], "little") <= _MAX_FIRST_BYTES


def read_dicom(data: bytes, *, header_only: bool = False) -> DicomRecord:
    """The record of one DICOM object.

    Raises BadVolume and nothing else: not DICOM, truncated, compressed, or without an element that every image has.
    """
    if not begins_as_dicom(data):
        _refuse("not_dicom", "expected a DICOM file (DICM at byte 128, or a data set), got something else")
    if _DEFLATED in data:  # before pydicom inflates it, to whatever size
        _refuse("compressed", "expected uncompressed DICOM, got a deflated file; export without compression")
    try:
        # pydicom warns about every oddity of a header, mostly in elements that we drop.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = _tags(header_only) | private_tags(data)
            dataset = usual_elements(data, tags, _CODEC)
            return _record(_parsed(data, tags) if dataset is None else dataset, header_only)
    except BadVolume:
        raise
    except Exception:  # malformed bytes make pydicom raise anything, and its errors quote the file
        refused = BadVolume(
            "expected a whole, well-formed DICOM file, got one that does not parse; send it again",
            code="dicom.unreadable",
        )
    raise refused  # outside the handler, so that the parser's exception is not attached


def _refuse(what: str, message: str) -> NoReturn:
    raise BadVolume(message, code=f"dicom.{what}")


@functools.cache
def _tags(header_only: bool) -> frozenset[int]:
    return frozenset(_tag_of(keyword) for keyword in ALLOWED if not (header_only and keyword in _PIXELS))


@functools.cache
def _tag_of(keyword: str) -> int:
    return int(Tag(keyword))


def _parsed(data: bytes, tags: Iterable[int]) -> Dataset:
    """The data set, read by the full parser."""
    return pydicom.dcmread(BytesIO(data), specific_tags=[BaseTag(tag) for tag in tags], force=True)


def _value(tag: int, vr: str, stored: bytes, creator: bytes) -> Any:
    """The value as the parser converts it; for an unknown VR it uses the creator."""
    raw = RawDataElement(BaseTag(tag), vr, len(stored), _or_empty(vr, stored), 0, False, True)
    beside = Dataset()
    if creator:
        reserved = BaseTag(tag & 0xFFFF0000 | tag >> 8 & 0xFF)
        beside[reserved] = RawDataElement(reserved, "LO", len(creator), creator, 0, False, True)
    return convert_raw_data_element(raw, ds=beside).value


def _or_empty(vr: str, stored: bytes) -> Any:
    return stored or empty_value_for_VR(vr, raw=True)


_repeated = functools.lru_cache(4096)(_value)  # frames and volumes share most of their values


def _converted(tag: int, vr: str, stored: bytes, creator: bytes) -> Any:
    return (_repeated if len(stored) <= MAX_REPEATED_BYTES else _value)(tag, vr, stored, creator)


_CODEC = Codec(_tag_of, _converted)


def _record(dataset: Dataset | Elements, header_only: bool) -> DicomRecord:
    head = Allowed(dataset)
    sop_class = head.text("SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if any(sop_class == one or sop_class.startswith(f"{one}.") for one in _NO_MR_IMAGES):
        _refuse("not_mr", "expected an MR image, got another object (report, raw data, screenshot, directory)")
    syntax = _syntax(dataset)
    rows, columns, bits = head.integer("Rows"), head.integer("Columns"), head.integer("BitsAllocated")
    if not rows or not columns or bits not in (8, 16, 32) or head.integer("SamplesPerPixel") != 1:
        _refuse("no_image", "expected a grey-scale image of 8, 16 or 32 bits, got none (or a truncated header)")
    if max(rows, columns) > MAX_SIDE_PIXELS:
        _refuse("no_image", f"expected at most {MAX_SIDE_PIXELS} rows and columns")
    if is_uih_grid(head):
        _refuse("layout", "expected single slices, got a grid of slices (United Imaging); export without the grid")
    n_frames = head.integer("NumberOfFrames") or sum(1 for _ in head.items("PerFrameFunctionalGroupsSequence")) or 1
    if not 1 <= n_frames <= MAX_FRAMES:
        _refuse("no_image", f"expected 1 to {MAX_FRAMES} frames, got {n_frames}")
    signed = head.integer("PixelRepresentation")
    dtype = f"<{'f' if bits == 32 and signed is None else 'i' if signed else 'u'}{bits // 8}"
    pixels = b"" if header_only else _voxels(head, syntax, dtype, n_frames, rows * columns)
    shared = next(head.items("SharedFunctionalGroupsSequence"), None)
    image_type = head.texts("ImageType") + siemens_type(head, shared)
    if shared is None and "MOSAIC" not in image_type and unnamed_mosaic(head, image_type):
        image_type += ("MOSAIC",)
    mosaic = siemens_mosaic(head) if "MOSAIC" in image_type else Mosaic()
    clock, units_s = ge_clock(head)
    return DicomRecord(
        series=hashlib.sha256(head.text("SeriesInstanceUID").encode()).hexdigest(),
        modality=head.text("Modality") or ("MR" if sop_class.startswith(f"{_STORAGE}.4") else ""),
        image_type=image_type,
        sop_class=sop_class,
        acquisition_number=head.integer("AcquisitionNumber"),
        instance_number=head.integer("InstanceNumber"),
        images_in_acquisition=slices_per_volume(head),
        tr_s=_tr_s(head, shared),
        rows=rows,
        columns=columns,
        dtype=dtype,
        frames=_frames(head, shared, n_frames),
        csa_slices=mosaic.slices,
        csa_normal=mosaic.normal,
        csa_times_ms=mosaic.times_ms,
        csa_readable=mosaic.readable,
        vendor=vendor_of(head),
        slice_clock=clock,
        slice_clock_units_s=units_s,
        component=head.text("ComplexImageComponent") or ge_component(head),
        pixels=stored_values(pixels, dtype, head.integer("BitsStored"), head.integer("HighBit")),
    )


def _voxels(head: Allowed, syntax: str, dtype: str, n_frames: int, n_pixels: int) -> bytes:
    """The pixels of all frames, little-endian and uncompressed."""
    n_bytes = np.dtype(dtype).itemsize
    if syntax == _RLE:
        return _unpacked(head, n_frames, n_pixels, n_bytes)
    pixels = _pixels(head, _FLOATS if "f" in dtype else _INTEGERS, n_frames, n_pixels * n_bytes)
    if syntax == _EXPLICIT_BIG:
        return bytes(np.frombuffer(pixels, dtype.replace("<", ">")).astype(dtype).tobytes())
    return pixels


def _tr_s(head: Allowed, shared: Allowed | None) -> float | None:
    """Seconds from volume to volume, including GE's pause after each."""
    tr_ms = head.number("RepetitionTime")
    if tr_ms is None and shared is not None:
        first = next(head.items("PerFrameFunctionalGroupsSequence"), Allowed())
        tr_ms = shared.beside(first).merged("MRTimingAndRelatedParametersSequence").number("RepetitionTime")
    return None if tr_ms is None else tr_ms / 1000.0 + ge_delay_s(head)


def _frames(head: Allowed, shared: Allowed | None, n_frames: int) -> tuple[Frame, ...]:
    if shared is None and not head.value("PerFrameFunctionalGroupsSequence"):
        if n_frames != 1:
            _refuse("layout", f"expected an enhanced multi-frame object or a single frame, got {n_frames} plain frames")
        return (plain_frame(head),)
    frames = enhanced_frames(head, shared or Allowed())
    if len(frames) != n_frames:
        _refuse("truncated", f"expected {n_frames} frames to be described, got {len(frames)}; send the file again")
    return frames


def _syntax(dataset: Any) -> str:
    """The transfer syntax; if unstated, the one in which the parser found the elements."""
    stated = str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
    if not stated and not len(dataset):
        _refuse("unreadable", "expected a DICOM file with elements, got none; send it again")
    if not stated:
        is_implicit, is_little = dataset.original_encoding
        return _EXPLICIT_BIG if not is_little else _IMPLICIT_LITTLE if is_implicit else _EXPLICIT_LITTLE
    if stated not in (_IMPLICIT_LITTLE, _EXPLICIT_LITTLE, _EXPLICIT_BIG, _RLE):
        known = UID(stated)
        name = known.name.split(",")[0] if known.is_transfer_syntax and known.name != stated else "another syntax"
        _refuse("compressed", f"expected uncompressed DICOM, or RLE, got {name}; export uncompressed")
    return stated


def _pixels(head: Allowed, keyword: str, n_frames: int, frame_bytes: int) -> bytes:
    """The pixel data without its padding: to an even length (PS3.5 section 8) or, by some exports, to more."""
    pixels, expected_bytes = head.value(keyword), n_frames * frame_bytes
    got = len(pixels) if isinstance(pixels, bytes) else 0
    if not isinstance(pixels, bytes) or not expected_bytes <= got < expected_bytes + max(frame_bytes, 2):
        _refuse(
            "truncated",
            f"expected {expected_bytes} bytes of pixel data, got {got}; wait until the file is whole and send it again",
        )
    return pixels[:expected_bytes]


def _unpacked(head: Allowed, n_frames: int, n_pixels: int, bytes_per_pixel: int) -> bytes:
    """The pixels of RLE-compressed data. Raises BadVolume first if the header promises more than they can hold."""
    encoded = head.value("PixelData")
    if not isinstance(encoded, bytes) or n_frames * n_pixels * bytes_per_pixel > MAX_RLE_RATIO * len(encoded):
        _refuse("truncated", "expected RLE-compressed pixel data for all frames; send the file again")
    frames = list(generate_frames(encoded, number_of_frames=n_frames))
    if len(frames) != n_frames:
        _refuse("truncated", f"expected {n_frames} compressed frames, got {len(frames)}; send the file again")
    return b"".join(decode_frame(frame, n_pixels, bytes_per_pixel) for frame in frames)
