"""Siemens' CSA image header → the three fields that a mosaic needs. Knows nothing of DICOM.

The header is a list of named tags, each a list of text items. There are two layouts: with ``SV10`` at the start (syngo
VB and later), and without (VA), where the stated length of an item includes the number of items of the first tag.
Siemens documents neither; this follows what SPM, nibabel and GDCM agree on. A header with a length beyond its end is
unreadable as a whole, since the part before may be wrong too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mindsight.scanner.formats.written import numbers

FIELDS = ("NumberOfImagesInMosaic", "SliceNormalVector", "MosaicRefAcqTimes")
"""The fields of the header that are read."""

MAX_TAGS = 1000
MAX_ITEMS = 4096
_MARKS = (77, 205)  # follow the number of tags, and end each tag
_TAG, _ITEM = struct.Struct("<64si4s3i"), struct.Struct("<4i")


@dataclass(frozen=True, slots=True)
class Csa:
    """Slice count, slice normal (LPS) and slice times; None if the header has no such field, or no value in it."""

    slices: int | None
    normal: tuple[float, ...] | None
    times_ms: tuple[float, ...] | None


def read_csa(header: bytes) -> Csa | None:
    """The fields of a header; None if it cannot be read, or holds none of them (like the header of the series)."""
    try:
        found = _fields(header)
    except (struct.error, _Unreadable):
        return None
    if not found:
        return None
    count = numbers(found.get(FIELDS[0]), 1)
    return Csa(
        slices=int(count[0]) if count and count[0] >= 1 else None,
        normal=numbers(found.get(FIELDS[1]), 3),
        times_ms=numbers(found.get(FIELDS[2]), None),
    )


class _Unreadable(Exception):
    """The bytes are not a CSA header."""


def _fields(header: bytes) -> dict[str, list[str]]:
    old = not header.startswith(b"SV10")
    at = 0 if old else 8
    n_tags, mark = struct.unpack_from("<2I", header, at)
    if not 0 < n_tags <= MAX_TAGS or mark not in _MARKS:
        raise _Unreadable
    at += 8
    found: dict[str, list[str]] = {}
    added = 0
    for k in range(n_tags):
        raw_name, _, _, _, n_items, mark = _TAG.unpack_from(header, at)
        if not 0 <= n_items <= MAX_ITEMS or mark not in _MARKS:
            raise _Unreadable
        if k == 0 and old:
            added = n_items
        at += _TAG.size
        name, items = _text(raw_name), []
        for _ in range(n_items):
            length = _ITEM.unpack_from(header, at)[0 if old else 1] - added
            at += _ITEM.size
            if not 0 <= length <= len(header) - at:
                raise _Unreadable
            if name in FIELDS and length:
                items.append(_text(header[at : at + length]))
            at += -(-length // 4) * 4
        if name in FIELDS:
            found[name] = [item for item in items if item]
    return found


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()
