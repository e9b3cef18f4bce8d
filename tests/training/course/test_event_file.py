"""The event file, read back as TensorBoard reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.course.event_file import EventFile, crc32c


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, B.4."""
    assert crc32c(bytes(32)) == 0x8A91_36AA
    assert crc32c(b"\xff" * 32) == 0x62A8_AB43
    assert crc32c(bytes(range(32))) == 0x46DD_794E


def records(path: Path) -> Iterator[bytes]:
    """Whole records, whose checksums are right."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = content[12 : 12 + length]
        for given, checked in ((content[:8], content[8:12]), (event, content[12 + length : 16 + length])):
            crc = crc32c(given)
            assert struct.unpack("<I", checked)[0] == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        yield event
        content = content[16 + length :]


def fields(message: bytes) -> dict[int, list[Any]]:
    """Number of each field -> what it holds, by protobuf's wire format."""

    def varint() -> int:
        nonlocal message
        value = shift = 0
        while True:
            byte, message = message[0], message[1:]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    found: dict[int, list[Any]] = {}
    while message:
        key = varint()
        kind = key & 7
        if kind == 0:
            value: Any = varint()
        else:
            length = {1: 8, 5: 4}.get(kind) or varint()
            value, message = message[:length], message[length:]
            if kind != 2:
                value = struct.unpack("<d" if kind == 1 else "<f", value)[0]
        found.setdefault(key >> 3, []).append(value)
    return found


def test_scalars_are_there_with_step_and_time(tmp_path: Path) -> None:
    held_out = {"all": {"images": {"value": 0.5, "interval": [0.4, 0.6], "n": 300, "chance": 0.01}}}
    events = EventFile(tmp_path, 300, 1.7e9)
    events.write(301, {"loss": 0.25, "held_out": held_out}, 1.7e9 + 1)
    events.close()
    [path] = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.1700000000")
    first, start, step = (fields(record) for record in records(path))
    assert first[3] == [b"brain.Event:2"]
    assert (start[2], fields(start[7][0])) == ([301], {1: [1]})
    assert (step[1], step[2]) == ([1.7e9 + 1], [301])
    values = [fields(value) for value in fields(step[5][0])[1]]
    assert {value[1][0].decode(): value[2][0] for value in values} == {"loss": 0.25, "held_out/all/images": 0.5}


def test_a_name_longer_than_a_byte_counts(tmp_path: Path) -> None:
    events = EventFile(tmp_path, 0, 1.0)
    events.write(1, {"a" * 200: 1.0}, 1.0)
    events.close()
    [path] = tmp_path.iterdir()
    *_, step = (fields(record) for record in records(path))
    assert fields(fields(step[5][0])[1][0])[1] == [b"a" * 200]
    assert fields(fields(step[5][0])[1][0])[2] == [pytest.approx(1.0)]
