"""A DICOM object's bytes → the requested elements, at every depth, in a quarter of a full parser's time.

Knows nothing of the elements' meaning, nor how their values are converted. An enhanced object describes each frame by a
hundred elements, of which a few are read. Only the usual layout is read (explicit, little endian, no fragments, no
unknown VR, ASCII only); any other object is left to the full parser.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, KeysView, Set
from typing import Any, NamedTuple

_PREAMBLE_BYTES = 132  # with DICM
_EXPLICIT = b"1.2.840.10008.1.2.1"
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # a length of four bytes: PS3.5 section 7.1.2
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_META, _DELIMITERS = 0x0002, 0xFFFE  # groups
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_TEXT = frozenset(b"LO LT PN SH ST UC UT".split())  # in the character set that the object states
_SYNTAX = 0x00020010
_PRIVATE = 0x00010000  # an odd group
_UNDEFINED = 0xFFFFFFFF
_MAX_DEPTH = 16
_HEAD, _ITEM_HEAD, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")


class Element(NamedTuple):
    vr: str
    value: Any


class Codec(NamedTuple):
    """Conversion of keywords to tags, and of stored bytes to values (by tag, VR, bytes and the block's creator)."""

    tag_of: Callable[[str], int]
    convert: Callable[[int, str, bytes, bytes], Any]


class Elements:
    """A data set with the interface of the parser's own: values by keyword, elements by tag."""

    __slots__ = ("_codec", "_found", "_meta")

    def __init__(self, found: dict[int, Element], codec: Codec, meta: dict[int, Element] | None = None) -> None:
        self._found = found
        self._codec = codec
        self._meta = meta or {}

    @property
    def file_meta(self) -> Elements:
        return Elements(self._meta, self._codec)

    def get(self, key: str | int, default: Any = None) -> Any:
        """The value for a keyword, the element for a tag. Raises what the conversion raises."""
        tag = self._codec.tag_of(key) if isinstance(key, str) else key
        element = self._found.get(tag)
        if element is None:
            return default
        if isinstance(element.value, bytes):
            creator = self._found.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF) if element.vr == "UN" else None
            stored = creator.value if creator is not None else b""
            element = Element(element.vr, self._codec.convert(tag, element.vr, element.value, stored))
        return element.value if isinstance(key, str) else element

    def get_item(self, key: str | int) -> Element:
        """The element as stored."""
        return self._found[self._codec.tag_of(key) if isinstance(key, str) else key]

    def keys(self) -> KeysView[int]:
        return self._found.keys()

    def __contains__(self, key: str | int) -> bool:
        return (self._codec.tag_of(key) if isinstance(key, str) else key) in self._found

    def __len__(self) -> int:
        return len(self._found)


def usual_elements(data: bytes, tags: Set[int], codec: Codec) -> Elements | None:
    """The elements with these tags; None if the object does not have the usual layout."""
    try:
        meta, start = _meta(data)
        if meta.get(_SYNTAX, Element("UI", b"")).value.rstrip(b"\0") != _EXPLICIT:
            return None
        found = _Walk(data, tags, codec).elements(start, len(data), 0)[0]
    except (_Unusual, struct.error):
        return None
    return Elements(found, codec, meta)


class _Unusual(Exception):
    """The bytes do not have the usual layout."""


def _head(data: bytes, at: int) -> tuple[int, int, bytes, int, int]:
    """Group, element, VR, and where the value begins and ends; the end is beyond all data if it is undefined."""
    group, element, vr, n_bytes = _HEAD.unpack_from(data, at)
    if vr in _SHORT:
        return group, element, vr, at + 8, at + 8 + n_bytes
    if vr in _LONG:
        (n_bytes,) = _LENGTH.unpack_from(data, at + 8)
        return group, element, vr, at + 12, at + 12 + n_bytes if n_bytes != _UNDEFINED else _UNDEFINED
    raise _Unusual


def _meta(data: bytes) -> tuple[dict[int, Element], int]:
    """The file meta information, and where the data set begins."""
    if data[_PREAMBLE_BYTES - 4 : _PREAMBLE_BYTES] != b"DICM":
        raise _Unusual
    found: dict[int, Element] = {}
    at = _PREAMBLE_BYTES
    while True:
        group, element, vr, value, end = _head(data, at)
        if group != _META:
            return found, at
        if end > len(data):
            raise _Unusual
        found[group << 16 | element] = Element(vr.decode(), data[value:end])
        at = end


class _Walk:
    def __init__(self, data: bytes, tags: Set[int], codec: Codec) -> None:
        self._data = data
        self._tags = tags
        self._codec = codec

    def elements(self, at: int, end: int, depth: int, *, delimited: bool = False) -> tuple[dict[int, Element], int]:
        """The elements of a data set, which ends at ``end`` or with a delimiter; and where the next bytes are."""
        data, tags = self._data, self._tags
        found: dict[int, Element] = {}
        while at < end:
            if delimited and _ITEM_HEAD.unpack_from(data, at) == (_DELIMITERS, _ITEM_END, 0):
                return found, at + 8
            group, element, vr, value, stop = _head(data, at)
            tag = group << 16 | element
            if vr == b"SQ" and (tag in tags or stop == _UNDEFINED):
                items, stop = self._sequence(value, stop, depth + 1)
                if tag in tags:
                    found[tag] = Element("SQ", items)
            elif tag in tags:
                found[tag] = self._leaf(tag, vr, data[value:stop])
            if stop > end or group == _DELIMITERS:
                raise _Unusual
            at = stop
        if delimited or at != end:
            raise _Unusual
        return found, at

    def _leaf(self, tag: int, vr: bytes, stored: bytes) -> Element:
        if vr == b"UN":
            if not tag & _PRIVATE:
                raise _Unusual
            vr = b"LO" if tag & 0xFFFF < 0x100 else vr  # the creator of a block
        if vr in _TEXT and not (stored.isascii() and b"\x1b" not in stored):  # plain ASCII is the same in all sets
            raise _Unusual
        return Element(vr.decode(), stored)

    def _sequence(self, at: int, end: int, depth: int) -> tuple[list[Elements], int]:
        data, items, delimited = self._data, list[Elements](), end == _UNDEFINED
        if depth > _MAX_DEPTH:
            raise _Unusual
        while at < end:
            group, element, n_bytes = _ITEM_HEAD.unpack_from(data, at)
            if delimited and (group, element, n_bytes) == (_DELIMITERS, _SEQUENCE_END, 0):
                return items, at + 8
            if group != _DELIMITERS or element != _ITEM:
                raise _Unusual
            at += 8
            is_open = n_bytes == _UNDEFINED
            found, at = self.elements(at, len(data) if is_open else at + n_bytes, depth, delimited=is_open)
            items.append(Elements(found, self._codec))
        if at != end:
            raise _Unusual
        return items, at
