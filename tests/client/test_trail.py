"""What a killed stream leaves: the next process with the same command follows it, any other starts afresh."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mindsight.client.trail import Trail, newest_ns
from mindsight.volume import Volume


def first_volume(seed: int) -> Volume:
    return Volume(np.random.default_rng(seed).integers(0, 99, (4, 4, 3), dtype=np.int16), np.eye(4), 2.0, 1, 0)


def test_the_same_command_finds_its_runs_and_another_does_not(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "trail.json"
    before = Trail(path, "1 watch:/export", 5)
    before.save_run(first_volume(1), 3)
    again = Trail(path, "1 watch:/export", 9)
    assert (again.is_followed, again.newest_ns) == (True, 5)
    assert again.run_of(first_volume(1)) == 3
    assert again.run_of(first_volume(2)) is None
    other = Trail(path, "1 watch:/elsewhere", 9)
    assert (other.is_followed, other.newest_ns, other.run_of(first_volume(1))) == (False, 9, None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"command": 1}'])
def test_a_file_that_is_no_trail_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trail.json"
    path.write_bytes(content)
    assert not Trail(path, "1 watch:/export", 0).is_followed


def test_which_sources_leave_a_trail(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, seconds in (("a", 10), ("sub/b", 30), ("c", 20)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert newest_ns(f"watch:{tmp_path}?n=3") == 30_000_000_000
    watched = Trail.of(f"watch:{tmp_path}?n=3", tmp_path / "spool", 1)
    assert watched is not None
    assert watched.newest_ns == 30_000_000_000
    assert Trail.of("cstore://127.0.0.1:1", tmp_path / "spool", 1) is not None
    assert Trail.of("murfi://127.0.0.1:1", tmp_path / "spool", 1) is None
