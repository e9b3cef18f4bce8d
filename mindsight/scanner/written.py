"""Values as scanners and exports write them → finite numbers and words. Knows nothing of where they stand.

Written by hand and by many programs: padded with blanks or zeros, with a comma for the point, several where one is
meant, as text where bytes are meant and the other way round. A value that is no number is none.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

ABSURD = 1e12
"""No millimetre, millisecond or slope is so large; not a number is no smaller either."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_PADDING = " \0\t\r\n"


def numbers(value: Any, count: int | None, code: str = "") -> tuple[float, ...] | None:
    """Finite numbers, or None where there are none, or another count of them, or absurd ones.

    code : the struct code that the element's numbers have where nothing says so (an unknown VR)
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        found = _of_bytes(value, code)
    elif isinstance(value, str):
        found = [_of_text(part) for part in value.split("\\")]
    elif isinstance(value, (int, float)):
        found = [float(value)]
    else:
        found = [_of_text(part) if isinstance(part, str) else _of_number(part) for part in _parts(value)]
    if not found or (count is not None and len(found) != count):
        return None
    finite = tuple(number for number in found if number is not None and abs(number) < ABSURD)
    return finite if len(finite) == len(found) else None


def first_number(value: Any, code: str = "") -> float | None:
    """The first number, where one is expected and several may be written."""
    found = numbers(value, None, code)
    return found[0] if found else None


def whole(number: float | None) -> int | None:
    """A count, or None where the number is none."""
    return int(number) if number is not None and number == math.floor(number) else None


def texts(value: Any) -> tuple[str, ...]:
    """Words, without their padding; those of bytes where an element is not said to be text."""
    if value is None:
        return ()
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore")
    parts = value.split("\\") if isinstance(value, str) else _parts(value)
    return tuple(str(part).strip(_PADDING) for part in parts)


def first_text(value: Any) -> str:
    found = texts(value)
    return found[0] if found else ""


def _parts(value: Any) -> list[Any]:
    return list(value) if hasattr(value, "__iter__") else [value]


def _of_text(text: str) -> float | None:
    text = text.strip(_PADDING)
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def _of_number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) or hasattr(value, "__float__") else None


def _of_bytes(value: bytes, code: str) -> list[float | None]:
    """Text where every byte is of a number in text, which no binary number of an image is; else binary numbers."""
    text = value.decode("latin-1").strip(_PADDING)
    found = [_of_text(part) for part in text.split("\\")]
    if None not in found:
        return found
    size = struct.calcsize(f"<{code}") if code else 0
    if not size or not value or len(value) % size:
        return []
    return [float(number) for number in struct.unpack(f"<{len(value) // size}{code}", value)]
