"""Seeded changes of a valid input: of its bytes, and of the values of a JSON document."""

from __future__ import annotations

import copy
import gzip
import json
import random
import re
from collections.abc import Callable
from typing import Any

Mutate = Callable[[random.Random, bytes], bytes]

_BYTES = (0, 1, 0x20, 0x2C, 0x7B, 0x7F, 0x80, 0xFF)
_INTEGERS = (
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    2**15 - 1,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 7, 10**400, 2**63, 1e-320, 1e308, -1e308, float("nan"), float("inf"), "", "x", "x" * 20_000,
    "\0", "../../etc/passwd", "/", "\ud800", [], [[]], {}, {"": None}, [None] * 1000,
)  # fmt: skip


def mutate_bytes(random_: random.Random, content: bytes, head: int = 4096) -> bytes:
    """One to six changes, most of them in the first ``head`` bytes, where the lengths and types are."""
    changed = bytearray(content)
    for _ in range(random_.randint(1, 6)):
        if not changed:
            return bytes(changed)
        at = random_.randrange(min(len(changed), head) if random_.random() < 0.8 else len(changed))
        _change(random_, changed, at)
    return bytes(changed)


def _change(random_: random.Random, changed: bytearray, at: int) -> None:
    match random_.randrange(8):
        case 0:
            changed[at] ^= 1 << random_.randrange(8)
        case 1:
            changed[at] = random_.choice(_BYTES)
        case 2 | 3:
            size = random_.choice((2, 4, 8))
            value = random_.choice(_INTEGERS) % (1 << (8 * size))
            changed[at : at + size] = value.to_bytes(size, random_.choice(("little", "big")))
        case 4:
            del changed[at : at + random_.choice((1, 2, 4, 64, 1024))]
        case 5:
            piece = changed[at : at + random_.choice((1, 8, 128))]
            changed[at:at] = piece * random_.choice((1, 2, 100))
        case 6:
            changed[at:at] = random_.randbytes(random_.choice((1, 4, 32)))
        case 7:
            del changed[at:]


def mutate_json(random_: random.Random, content: bytes) -> bytes:
    """Other values and other keys somewhere in the document, or too deep a nesting; sometimes other bytes."""
    if random_.random() < 0.15:
        return mutate_bytes(random_, content)
    if random_.random() < 0.03:
        depth = random_.choice((100, 2_000, 100_000))
        return b"[" * depth + b"]" * depth
    document = json.loads(content)
    for _ in range(random_.randint(1, 3)):
        document = _with_another_value(random_, document)
    return json.dumps(document).encode()


def _with_another_value(random_: random.Random, document: Any) -> Any:
    holders = [holder for holder in _holders(document) if holder]
    if not holders or random_.random() < 0.02:
        return _value(random_)
    holder = random_.choice(holders)
    key = random_.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    match random_.randrange(5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random_.choice(("", "x", str(key) + "x"))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder.append(holder[key])
        case _:
            holder[key] = _value(random_)
    return document


def _value(random_: random.Random) -> Any:
    """A copy: what is put into a document is changed with it."""
    return copy.deepcopy(random_.choice(_VALUES))


def _holders(document: Any) -> list[Any]:
    """The objects and lists of a document, itself included."""
    if not isinstance(document, dict | list):
        return []
    inner = document.values() if isinstance(document, dict) else document
    return [document, *(holder for one in inner for holder in _holders(one))]


def mutate_gzip(random_: random.Random, content: bytes) -> bytes:
    """Of the compressed bytes, which then seldom are any; more often of what is in them, compressed again."""
    if not content.startswith(b"\x1f\x8b") or random_.random() < 0.2:
        return mutate_bytes(random_, content)
    return gzip.compress(mutate_bytes(random_, gzip.decompress(content)), 1)


def mutate_xml(random_: random.Random, content: bytes) -> bytes:
    """Other texts of one to three elements; sometimes other bytes, which seldom are XML."""
    if random_.random() < 0.2:
        return mutate_bytes(random_, content)
    for _ in range(random_.randint(1, 3)):
        start, end = random_.choice([match.span() for match in re.finditer(rb"(?<=>)[^<>]*(?=<)", content)])
        text = str(_value(random_)).encode(errors="replace")
        content = content[:start] + text.translate(None, b"<>&") + content[end:]
    return content


def as_before(_: random.Random, content: bytes) -> bytes:
    return content
