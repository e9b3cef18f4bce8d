"""A snapshot is believed only if it is whole; whatever else is found, the log is replayed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mindsight.bus import Lease, WorkQueue
from support.house import House
from workers.ingest.runner import SessionRunner
from workers.ingest.snapshot import read_snapshot, write_snapshot

ARRAYS = {"run.series": np.arange(12.0).reshape(3, 4), "run.count": np.array(3), "none": np.empty((0, 2), np.float32)}
DOCUMENT = {"opened": {"session": "s"}, "ingest": {"runs": [1]}, "repeats": []}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_snapshot(tmp_path / "s.safetensors", 7, DOCUMENT, ARRAYS)
    return tmp_path / "s.safetensors"


def test_it_gives_back_what_was_written(path: Path) -> None:
    snapshot = read_snapshot(path)
    assert snapshot is not None
    assert (snapshot.position, snapshot.document) == (7, DOCUMENT)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(snapshot.arrays[name], array)


def test_no_changed_byte_is_believed(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        found = read_snapshot(path)
        # the padding of the header means nothing
        assert found is None or (found.position, found.document) == (7, DOCUMENT)
        if found is not None:
            assert all(np.array_equal(found.arrays[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"[" * 5000, json.dumps(DOCUMENT).encode()])
def test_another_file_is_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_snapshot(path) is None


def test_a_whole_snapshot_of_another_state_is_left_and_the_log_replayed(house: House) -> None:
    house.open("ses-odd")
    lease = Lease.acquire(house.bus, "ses-odd", "test", 60.0)
    assert lease is not None
    given = (lease, house.bus, house.blobs, WorkQueue(house.bus, "none"), house.settings)
    path = SessionRunner("ses-odd", *given).snapshot_path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_snapshot(path, 5, DOCUMENT, ARRAYS)
    runner = SessionRunner.resume("ses-odd", *given)
    assert (runner.position, runner.ingest) == (0, None)
