"""What the console keeps on its own disk until the gateway has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindsight.client.spool import Spool
from mindsight.errors import StorageFull
from support.small_files import small_files

__all__ = ["small_files"]


def test_volumes_wait_in_order_until_they_are_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "session")
    assert spool.waiting() == []
    for run, index in ((2, 0), (1, 10), (1, 9)):
        spool.put(run, index, f"{run}-{index}".encode())
    waiting = Spool(tmp_path / "session").waiting()  # as the next process finds them
    assert [(one.run, one.index, one.read()) for one in waiting] == [(1, 9, b"1-9"), (1, 10, b"1-10"), (2, 0, b"2-0")]
    waiting[0].remove()
    waiting[0].remove()
    assert [one.index for one in spool.waiting()] == [10, 0]


def test_the_same_volume_again_replaces_the_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(1, 0, b"first")
    spool.put(1, 0, b"second")
    assert [one.read() for one in spool.waiting()] == [b"second"]
    assert spool.waiting()[0].path.stat().st_mode & 0o077 == 0


def test_what_is_put_aside_is_kept_and_waits_no_longer(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(1, 0, b"refused by the gateway").put_aside()
    assert spool.waiting() == []
    [kept] = (tmp_path / "refused").iterdir()
    assert kept.read_bytes() == b"refused by the gateway"


def test_a_volume_that_does_not_fit_is_storage_full_and_does_not_wait(tmp_path: Path, small_files: None) -> None:
    spool = Spool(tmp_path)
    spool.put(1, 0, b"small")
    with pytest.raises(StorageFull):
        spool.put(1, 1, bytes(10_000))
    assert [one.index for one in spool.waiting()] == [0]
