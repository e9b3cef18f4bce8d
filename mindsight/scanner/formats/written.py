"""Values as scanners and exports write them → finite numbers and words. Knows nothing of the elements.

Many programs and people write them: padded with blanks or zeros, with a decimal comma, several values instead of one,
text instead of bytes and the other way round. A value that is not a number counts as absent.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

ABSURD = 1e12
"""No millimetre, millisecond or slope is as large; NaN is not smaller either."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_PADDING = " \0\t\r\n"


def numbers(value: Any, count: int | None, code: str = "") -> tuple[float, ...] | None:
    """Finite numbers; None if there are none, another count of them, or absurd ones.

    code : struct code of the element's numbers, for an unknown VR
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
    """The first number, if one is expected and several may be written."""
    found = numbers(value, None, code)
    return found[0] if found else None


def whole(number: float | None) -> int | None:
    """The number as an integer; None if it is not one."""
    return int(number) if number is not None and number == math.floor(number) else None


def texts(value: Any) -> tuple[str, ...]:
    """Words without padding; bytes are decoded, if an element is not declared as text."""
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
    """Numbers in text if every byte fits that, which binary numbers of an image never do; else binary numbers."""
    text = value.decode("latin-1").strip(_PADDING)
    found = [_of_text(part) for part in text.split("\\")]
    if None not in found:
        return found
    size = struct.calcsize(f"<{code}") if code else 0
    if not size or not value or len(value) % size:
        return []
    return [float(number) for number in struct.unpack(f"<{len(value) // size}{code}", value)]
