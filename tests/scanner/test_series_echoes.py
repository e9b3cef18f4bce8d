"""Several echoes in a folder: the first is the run, or the one that was chosen; never a mixture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from support.enhanced_dataset import enhanced_run
from support.slice_files import PHILIPS, SLICES, save, slice_dataset, truth

TIMES_MS = (12.0, 28.0, 44.0)


def slices(echoes: int, volumes: int, order: str, **given: object) -> list[Dataset]:
    """order : what the instance numbers run through, the innermost last: v volume, e echo, s slice"""
    ranges = {"v": range(volumes), "e": range(echoes), "s": range(SLICES)}
    a, b, c = order
    made = []
    for one in ranges[a]:
        for two in ranges[b]:
            for three in ranges[c]:
                at = {a: one, b: two, c: three}
                made.append(
                    slice_dataset(
                        at["v"],
                        at["s"],
                        instance=len(made) + 1,
                        seed=at["e"],
                        echo=at["e"] + 1,
                        echo_ms=TIMES_MS[at["e"]],
                        **given,
                    )
                )
    return made


def read(folder: Path, **given: object) -> tuple[np.ndarray, list[int], str]:
    series = open_series(folder, **given)
    volumes = list(series)
    assert series.n_volumes == len(volumes)
    return np.stack([one.data for one in volumes]), [one.index for one in volumes], "; ".join(series.notes)


@pytest.mark.parametrize("order", ["ves", "vse", "evs"])
@pytest.mark.parametrize("echo", [None, 2, 3])
def test_slices_of_three_echoes_in_whatever_order_they_are_numbered(
    order: str, echo: int | None, tmp_path: Path
) -> None:
    save(tmp_path, slices(3, 4, order))
    got, indices, note = read(tmp_path, echo=echo)
    np.testing.assert_array_equal(got, [truth(k, (echo or 1) - 1) for k in range(4)])
    assert indices == [0, 1, 2, 3]
    assert f"chose echo {echo or 1} ({TIMES_MS[(echo or 1) - 1]:g} ms)" in note
    assert len(re.findall("left out echo", note)) == 1


def test_echoes_distinguished_by_their_times_alone(tmp_path: Path) -> None:
    """Every object calls itself echo 1; the volumes are numbered."""
    made = [
        slice_dataset(v, s, instance=None, seed=e, echo=1, echo_ms=TIMES_MS[e] + 0.01 * s, temporal=v + 1)
        for v in range(3)
        for e in (1, 0)
        for s in range(SLICES)
    ]
    save(tmp_path, made)
    np.testing.assert_array_equal(read(tmp_path)[0], [truth(k, 0) for k in range(3)])
    np.testing.assert_array_equal(read(tmp_path, echo=2)[0], [truth(k, 1) for k in range(3)])


def test_echoes_in_series_of_their_own(tmp_path: Path) -> None:
    for e in range(2):
        made = [
            slice_dataset(v, s, instance=v * SLICES + s + 1, seed=e, series=f"1.2.{e}", echo=e + 1, echo_ms=TIMES_MS[e])
            for v in range(3)
            for s in range(SLICES)
        ]
        save(tmp_path, made, f"series{e}-")
    got, _, note = read(tmp_path, echo=2)
    np.testing.assert_array_equal(got, [truth(k, 1) for k in range(3)])
    assert "left out echo 1 (12 ms)" in note


def test_two_runs_with_different_echo_times_are_no_echoes(tmp_path: Path) -> None:
    for run in range(2):
        made = [
            slice_dataset(
                v,
                s,
                instance=v * SLICES + s + 1,
                seed=run,
                series=f"1.2.{run}",
                echo=1,
                echo_ms=TIMES_MS[run],
                clock_s=36000.0 + 600.0 * run + 2.0 * v,
            )
            for v in range(3)
            for s in range(SLICES)
        ]
        save(tmp_path, made, f"run{run}-")
    with pytest.raises(BadVolume, match="expected one series"):
        open_series(tmp_path)


def test_an_echo_that_is_not_there_is_refused_and_named(tmp_path: Path) -> None:
    save(tmp_path, slices(2, 2, "ves"))
    with pytest.raises(BadVolume, match=r"expected echo 3, got echo 1 \(12 ms\) and echo 2 \(28 ms\)"):
        open_series(tmp_path, echo=3)


def test_a_lost_volume_is_a_gap_of_one(tmp_path: Path) -> None:
    made = slices(2, 5, "ves", image_type=PHILIPS)
    del made[2 * 2 * SLICES : 3 * 2 * SLICES]
    save(tmp_path, made)
    errors: list[BadVolume] = []
    assert [one.index for one in open_series(tmp_path, on_bad=errors.append)] == [0, 1, 3, 4]


def test_frames_of_several_echoes_in_one_enhanced_object(tmp_path: Path) -> None:
    for k in range(3):
        dataset = enhanced_run([k], series="1.2.9", instance=k + 1, echoes_ms=TIMES_MS[:2])
        dataset.save_as(tmp_path / f"Doe{k}.dcm", enforce_file_format=True)
    got, indices, _ = read(tmp_path)
    np.testing.assert_array_equal(got, [truth(k, 0) for k in range(3)])
    np.testing.assert_array_equal(read(tmp_path, echo=2)[0], [truth(k, 1) for k in range(3)])
    assert indices == [0, 1, 2]


@pytest.mark.parametrize("n_left", [0, 1])
def test_a_combination_is_the_weighted_mean(n_left: int, tmp_path: Path) -> None:
    """By hand: T2* by a line through two logarithms, weights TE exp(-TE / T2*)."""
    made = slices(2, 3, "ves")
    save(tmp_path, made[: len(made) - n_left])
    got, _, note = read(tmp_path, echo="combine")
    first, second = truth(0, 0).astype(float), truth(0, 1).astype(float)
    rate = np.clip((np.log(first) - np.log(second)) / 16.0, 1 / 300.0, 1 / 5.0)
    weight = 12.0 * np.exp(-12.0 * rate), 28.0 * np.exp(-28.0 * rate)
    for k in range(3 - n_left):
        expected = (weight[0] * truth(k, 0) + weight[1] * truth(k, 1)) / (weight[0] + weight[1])
        np.testing.assert_allclose(got[k], expected, rtol=1e-5)
    assert len(got) == 3 - n_left
    assert "combined echo 1 (12 ms) and echo 2 (28 ms)" in note


def test_what_cannot_be_combined_is_refused_in_words(tmp_path: Path) -> None:
    save(tmp_path / "one", slices(1, 2, "ves"))
    with pytest.raises(BadVolume, match="expected several echoes"):
        open_series(tmp_path / "one", echo="combine")
    save(tmp_path / "timeless", [*slices(2, 2, "ves")])
    for dataset in (made := slices(2, 2, "ves")):
        del dataset.EchoTime
    save(tmp_path / "timeless", made)
    with pytest.raises(BadVolume, match="expected a different echo time"):
        open_series(tmp_path / "timeless", echo="combine")
