"""Runs that were stopped: the last volume is left where it is not whole, and that is noted; in the middle it is an
error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.recording import open_run
from support.enhanced_dataset import enhanced_run
from support.slice_files import SLICES, save, slice_dataset, truth


def slices(n_volumes: int, *, numbered: bool = False) -> list:
    return [
        slice_dataset(v, s, instance=v * SLICES + s + 1, temporal=v + 1 if numbered else None)
        for v in range(n_volumes)
        for s in range(SLICES)
    ]


def assert_left(folder: Path, n_whole: int, note: str) -> None:
    run = open_run(folder)
    volumes = list(run.volumes())
    np.testing.assert_array_equal([one.data for one in volumes], [truth(k) for k in range(n_whole)])
    assert run.n_volumes == n_whole
    assert sum(note in one for one in run.series.notes) == 1


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("n_last", [1, 3])
def test_slices(numbered: bool, n_last: int, tmp_path: Path) -> None:
    save(tmp_path, slices(4, numbered=numbered)[: 3 * SLICES + n_last])
    assert_left(tmp_path, 3, f"left out the last volume, which has {n_last} of {SLICES} slices")


def test_the_last_slice_is_cut_off(tmp_path: Path) -> None:
    save(tmp_path, slices(3))
    last = sorted(tmp_path.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-20])
    assert_left(tmp_path, 2, "left out the last volume, whose file is truncated")


def test_enhanced_objects_and_a_run_in_one_object(tmp_path: Path) -> None:
    made = [enhanced_run([k], instance=k + 1, n_last=SLICES if k < 3 else 2) for k in range(4)]
    save(tmp_path / "objects", made)
    save(tmp_path / "one", [enhanced_run([0, 1, 2], instance=1, n_last=1)])
    assert_left(tmp_path / "objects", 3, f"left out the last volume, which has 2 of {SLICES} slices")
    assert_left(tmp_path / "one", 2, f"left out the last volume, which has 1 of {SLICES} slices")


def test_in_the_middle_it_stays_an_error(tmp_path: Path) -> None:
    made = slices(4)
    del made[SLICES + 1]
    save(tmp_path / "slices", made)
    save(tmp_path / "objects", [enhanced_run([k], instance=k + 1, n_last=2 if k == 1 else SLICES) for k in range(4)])
    for folder in ("slices", "objects"):
        with pytest.raises(BadVolume):
            list(open_series(tmp_path / folder))
        errors: list[BadVolume] = []
        assert [one.index for one in open_series(tmp_path / folder, on_bad=errors.append)] == [0, 2, 3]
        assert len(errors) == 1


def test_callers_that_collect_bad_volumes_get_the_last_one_too(tmp_path: Path) -> None:
    save(tmp_path, slices(4)[: 3 * SLICES + 2])
    errors: list[BadVolume] = []
    assert [one.index for one in open_series(tmp_path, on_bad=errors.append)] == [0, 1, 2]
    assert [error.code for error in errors] == ["series.incomplete"]
