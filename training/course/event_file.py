"""Numbers of a run as TensorBoard reads them: an event file of scalars, without TensorBoard.

The format is that of TensorFlow's summaries (event.proto, summary.proto, and records with masked CRC-32C, RFC 3720).
Knows nothing of what the numbers are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_VERSION = b"brain.Event:2"
_START = 1  # SessionLog.START: what an earlier process wrote of later steps is replaced


class EventFile:
    """One process's file in the folder of a run.

    step : that the process begins after; now_s : seconds since the Unix epoch
    """

    def __init__(self, folder: Path, step: int, now_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{int(now_s):010d}.{step}").open("wb")
        self._write(_event(now_s, 0, _bytes(3, _VERSION)))
        self._write(_event(now_s, step + 1, _bytes(7, _number(1, _START))))

    def write(self, step: int, figures: Mapping[str, Any], now_s: float) -> None:
        """Every number of the figures; those of a table within the figures under ``table/name``."""
        values = [
            _bytes(1, _bytes(1, tag.encode()) + _tag(2, 5) + struct.pack("<f", value)) for tag, value in flat(figures)
        ]
        self._write(_event(now_s, step, _bytes(5, b"".join(values))))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked(length) + event + _masked(event))


def flat(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Name and value of every number; of an accuracy (``value`` with its ``interval``) the value under its own name."""
    for name, value in figures.items():
        if isinstance(value, Mapping) and "value" in value:
            yield f"{before}{name}", float(value["value"])
        elif isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}/")
        else:
            yield f"{before}{name}", float(value)


def crc32c(content: bytes) -> int:
    """Castagnoli's CRC."""
    crc = 0xFFFF_FFFF
    for byte in content:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F6_3B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def _masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282_EAD8) & 0xFFFF_FFFF)


def _event(now_s: float, step: int, rest: bytes) -> bytes:
    return _tag(1, 1) + struct.pack("<d", now_s) + _number(2, step) + rest


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
