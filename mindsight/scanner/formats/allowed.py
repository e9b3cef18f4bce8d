"""The allow-list, and a view of data sets that shows only what is on it.

Knows nothing of files. ``dicom_header.py`` opens data sets and passes them here; nothing else reads their elements. A
value that the parser cannot convert is returned as bytes: one malformed element does not make an image unreadable.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mindsight.scanner.formats.written import first_number, first_text, numbers, texts, whole

ALLOWED = frozenset(
    {
        # which series, which file of it
        *("SOPClassUID", "SeriesInstanceUID", "Modality", "ImageType", "AcquisitionNumber", "InstanceNumber"),
        *("TemporalPositionIdentifier", "ImagesInAcquisition", "ComplexImageComponent"),
        "Manufacturer",  # becomes one of the known names (vendors.py), never the text
        # when
        *("RepetitionTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "TimezoneOffsetFromUTC"),
        *("TriggerTime", "EchoTime", "EchoNumbers"),
        # where
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
        # the voxels
        *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "PixelData"),
        *("BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept", "FloatPixelData"),
        # where the same is found in an enhanced multi-frame object
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "MRTimingAndRelatedParametersSequence"),
        *("FrameContentSequence", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "TemporalPositionIndex"),
        *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "StackID"),
        *("PixelValueTransformationSequence", "RealWorldValueMappingSequence", "RealWorldValueSlope"),
        *("RealWorldValueIntercept", "MRImageFrameTypeSequence", "MREchoSequence", "EffectiveEchoTime"),
        *("DimensionIndexSequence", "DimensionIndexPointer", "DimensionIndexValues"),
    }
)
"""Keywords of the DICOM elements that may be read."""


@dataclass(frozen=True, slots=True)
class Private:
    """A private element: group, creator, element in the creator's block, and the struct code of its numbers.

    usual_block : block to use if no creator has reserved it, since exports drop the creators. Set only for elements
        that no other vendor has there, or whose content identifies them
    """

    group: int
    creator: str
    element: int
    code: str = ""
    usual_block: int | None = None


ALLOWED_PRIVATE = {
    "csa": Private(0x0029, "SIEMENS CSA HEADER", 0x10, usual_block=0x10),
    "mosaic_slices": Private(0x0019, "SIEMENS MR HEADER", 0x0A, "H", usual_block=0x10),
    "mosaic_times": Private(0x0019, "SIEMENS MR HEADER", 0x29, "d", usual_block=0x10),
    "uih_grid": Private(0x0065, "Image Private Header", 0x50),
    "siemens_type": Private(0x0021, "SIEMENS MR SDI 02", 0x75),  # ImageType4MF: what ImageType was before XA
    "siemens_frame": Private(0x0021, "SIEMENS MR SDI 02", 0xFE),
    "philips_slices": Private(0x2001, "Philips Imaging DD 001", 0x18, "i", usual_block=0x10),
    "philips_intercept": Private(0x2005, "Philips MR Imaging DD 001", 0x0D, "f", usual_block=0x10),
    "philips_scale": Private(0x2005, "Philips MR Imaging DD 001", 0x0E, "f", usual_block=0x10),
    "philips_frame": Private(0x2005, "Philips MR Imaging DD 005", 0x0F),
    "ge_slices": Private(0x0021, "GEMS_RELA_01", 0x4F, "h"),
    "ge_component": Private(0x0043, "GEMS_PARM_01", 0x2F, "h"),
    "ge_multiband": Private(0x0043, "GEMS_PARM_01", 0xB6),
    "ge_delay": Private(0x0043, "GEMS_PARM_01", 0x7C, "f"),
    "ge_timer": Private(0x0021, "GEMS_RELA_01", 0x5E, "f"),
}
"""Private elements that are read."""

_BLOCKS = range(0x10, 0x100)  # PS3.5 section 7.8.1
_PIXELS = b"\xe0\x7f\x10\x00"
_LONG_HEAD = 12  # bytes of a tag, a VR and a length before a value that may be long; else 8
_HEADS = [(order, head) for order in ("<2H", ">2H") for head in (8, _LONG_HEAD)]


def private_tags(data: bytes) -> set[int]:
    """Tags at which an object has a private element of the list, or the name of its creator.

    They are found by the creator's name, in whatever block: most objects have few of them.
    """
    tags = {tag for one in ALLOWED_PRIVATE.values() if one.usual_block for tag in _tags_of(one, one.usual_block)}
    end = data.find(_PIXELS)
    for creator, privates in _by_creator().items():
        at = _LONG_HEAD
        while (at := data.find(creator, at, end if end > 0 else len(data))) >= 0:
            for order, head in _HEADS:
                group, block = struct.unpack_from(order, data, at - head)
                if block in _BLOCKS:
                    tags.update(tag for one in privates if one.group == group for tag in _tags_of(one, block))
            at += len(creator)
    return tags


@functools.cache
def _by_creator() -> dict[bytes, list[Private]]:
    found: dict[bytes, list[Private]] = {}
    for private in ALLOWED_PRIVATE.values():
        found.setdefault(private.creator.encode(), []).append(private)
    return found


def _tags_of(private: Private, block: int) -> tuple[int, int]:
    return private.group << 16 | block, private.group << 16 | block << 8 | private.element


class Allowed:
    """A view of data sets that shows only what is on the lists; an element is taken from the first set that has it."""

    def __init__(self, *datasets: Any) -> None:
        self._datasets = datasets
        self._first: dict[str, tuple[Any, ...]] = {}
        self._beside: Allowed | None = None
        self._reserved: list[dict[int, dict[int, str]]] | None = None

    def __bool__(self) -> bool:
        return bool(self._datasets)

    def value(self, keyword: str) -> Any:
        """Value of the element; None if it is absent or empty, its bytes if they cannot be converted."""
        for dataset in self._datasets:
            found = _converted(dataset, _listed(keyword))
            if found is not None and found != "":
                return found
        return None

    def text(self, keyword: str) -> str:
        return first_text(self.value(keyword))

    def texts(self, keyword: str) -> tuple[str, ...]:
        return texts(self.value(keyword))

    def numbers(self, keyword: str, count: int | None) -> tuple[float, ...] | None:
        return numbers(self.value(keyword), count)

    def number(self, keyword: str) -> float | None:
        return first_number(self.value(keyword))

    def integer(self, keyword: str) -> int | None:
        return whole(self.number(keyword))

    def items(self, keyword: str) -> Iterator[Allowed]:
        return _items(self.value(keyword))

    def merged(self, keyword: str) -> Allowed:
        """The first item of this sequence in each data set, as one view."""
        return Allowed(*self._firsts(keyword))

    def beside(self, other: Allowed) -> Allowed:
        """Both as one view, this one first. Items already found in the other are not searched again."""
        both = Allowed(*self._datasets, *other._datasets)
        both._beside = other
        return both

    def _firsts(self, keyword: str) -> tuple[Any, ...]:
        if keyword not in self._first:
            other = self._beside
            own = self._datasets[: len(self._datasets) - len(other._datasets)] if other else self._datasets
            items = (next(_items(_converted(dataset, _listed(keyword))), None) for dataset in own)
            found = tuple(dataset for item in items if item is not None for dataset in item._datasets)
            self._first[keyword] = found + (other._firsts(keyword) if other else ())
        return self._first[keyword]

    def private(self, name: str) -> Any:
        return next((value for value in self._privates(name) if value is not None and value != ""), None)

    def private_number(self, name: str) -> float | None:
        return first_number(self.private(name), ALLOWED_PRIVATE[name].code)

    def private_numbers(self, name: str) -> tuple[float, ...] | None:
        return numbers(self.private(name), None, ALLOWED_PRIVATE[name].code)

    def private_items(self, name: str) -> Iterator[Allowed]:
        return _items(self.private(name))

    def private_bytes(self, name: str) -> Iterator[bytes]:
        """Bytes as stored in the file, whatever their VR, for each block that the creator has reserved."""
        for dataset, tag in self._private_tags(name):
            found = _raw(dataset, tag)
            if found:
                yield found

    def _privates(self, name: str) -> Iterator[Any]:
        for dataset, tag in self._private_tags(name):
            yield _converted(dataset, tag)

    def _private_tags(self, name: str) -> Iterator[tuple[Any, int]]:
        private = ALLOWED_PRIVATE[name]
        for dataset, blocks in zip(self._datasets, self._creators(), strict=True):
            creators = blocks.get(private.group, {})
            for block, creator in creators.items():
                if creator == private.creator:
                    yield dataset, _tags_of(private, block)[1]
            if private.usual_block is not None and private.usual_block not in creators:
                yield dataset, _tags_of(private, private.usual_block)[1]

    def _creators(self) -> list[dict[int, dict[int, str]]]:
        """For each data set: the creator of each block of its private groups."""
        if self._reserved is None:
            self._reserved = [{} for _ in self._datasets]
            for dataset, groups in zip(self._datasets, self._reserved, strict=True):
                for tag in dataset.keys():  # noqa: SIM118 - a data set iterates over its elements
                    group, element = tag >> 16, tag & 0xFFFF
                    if group & 1 and element in _BLOCKS:
                        groups.setdefault(group, {})[element] = first_text(_converted(dataset, int(tag)))
        return self._reserved


def _listed(keyword: str) -> str:
    if keyword not in ALLOWED:
        raise LookupError(keyword)
    return keyword


def _items(found: Any) -> Iterator[Allowed]:
    """The items of a sequence; none if the value is not a sequence of data sets."""
    if found is None or isinstance(found, (bytes, str)) or not hasattr(found, "__iter__"):
        return
    for item in found:
        if hasattr(item, "get_item"):
            yield Allowed(item)


def _converted(dataset: Any, key: str | int) -> Any:
    try:
        found = dataset.get(key)
    except Exception:  # the parser's converters raise anything
        return _raw(dataset, key)
    return getattr(found, "value", None) if isinstance(key, int) else found


def _raw(dataset: Any, key: str | int) -> bytes | None:
    if key not in dataset:
        return None
    value = dataset.get_item(key).value
    return value if isinstance(value, bytes) else None
