"""Runs that a scanner's room produces: no usable TR in the headers, pauses, a run that is started again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.transports import Expected, Item
from support.dicom_files import enhanced, mosaic, planes, put, raw, seen, slices_of, written
from support.taking import codes, ends, places, volumes, warnings_in


def live(datasets: Sequence[Dataset], expected: Expected | None = None) -> list[Item]:
    assembler = Assembler(expected or Expected(), late_s=3.0)
    items = []
    for k, dataset in enumerate(datasets):
        items += [*assembler.add(Arrival(written(dataset), 1000.0 + k), float(k)), *assembler.tick(float(k))]
    return [*items, *assembler.finish()]


def mosaics(moments_s: Sequence[float | None], tr: str | None = "2000") -> list[Dataset]:
    run = []
    for k, moment_s in enumerate(moments_s):
        dataset = mosaic(k + 1)
        del dataset.RepetitionTime
        if tr is not None:
            raw(dataset, "RepetitionTime", tr)
        if moment_s is None:
            del dataset.AcquisitionTime, dataset.AcquisitionDate
        else:
            minutes, seconds = divmod(moment_s, 60)
            dataset.AcquisitionTime = f"10{int(minutes):02d}{seconds:09.6f}"
        run.append(dataset)
    return run


def even(n: int = 5, step_s: float = 2.0) -> list[float]:
    return [step_s * k for k in range(n)]


@pytest.mark.parametrize("tr", ["9", "0", "-2000", "NaN", "1e9", None])
def test_without_a_usable_tr_the_clock_is_taken(tr: str | None, tmp_path: Path) -> None:
    run = mosaics(even(step_s=1.5), tr)
    out = live(run)
    assert places(out) == [(1, k) for k in range(5)]
    assert {volume.tr_s for volume in volumes(out)} == {1.5}
    assert codes(out).count("volume.tr") == 1
    assert not any(warning.lost for warning in warnings_in(out))
    assert open_series(put(tmp_path, run)).tr_s == 1.5


def test_slices_and_enhanced_objects_without_a_usable_tr() -> None:
    def change(dataset: Dataset, _volume: int, _place: int) -> None:
        dataset.RepetitionTime = 9.0

    whole = enhanced(5)
    whole.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence[0].RepetitionTime = 9.0
    for out in (live(slices_of(5, change=change)), live([whole])):
        assert places(out) == [(1, k) for k in range(5)]
        assert {volume.tr_s for volume in volumes(out)} == {2.0}


def test_if_nothing_gives_the_tr_the_run_is_lost_and_reported() -> None:
    out = live(mosaics([None] * 5, None))
    assert volumes(out) == []
    warned = [warning for warning in warnings_in(out) if warning.code == "volume.tr"]
    assert warned
    assert all(warning.lost and "repetition time" in warning.text for warning in warned)
    assert len(volumes(live(mosaics([None] * 5, None), Expected(tr_s=2.0)))) == 5


@pytest.mark.parametrize(
    ("moments_s", "words"),
    [
        ([0.0, 2.0, 4.0, 6.0, 16.0, 18.0, 20.0, 22.0], "8 s before volume 4"),  # a pause
        ([0.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0], "5 s before volume 1"),  # a reference image before the run
        ([60.0, 62.0, 64.0, 6.0, 8.0, 10.0, 12.0], "-60 s before volume 3"),  # a clock that was set
    ],
)
def test_jumps_of_the_clock_are_reported(moments_s: list[float], words: str, tmp_path: Path) -> None:
    run = mosaics(moments_s)
    out = live(run)
    assert len(volumes(out)) == len(run)
    assert [words in warning.text for warning in warnings_in(out) if warning.code == "volume.clock"] == [True]
    assert [words in note for note in open_series(put(tmp_path, run)).notes if "jumps" in note] == [True]


def test_jitter_gaps_and_midnight_are_no_jumps() -> None:
    late = mosaics([0.0, 2.3, 3.8, 6.1, 8.0])
    lost = mosaics(even(8))[:3] + mosaics(even(8))[5:]
    night = mosaics(even(6))
    for k, dataset in enumerate(night):
        del dataset.AcquisitionDate
        dataset.AcquisitionTime = f"2359{54 + 2 * k}" if k < 3 else f"0000{2 * k - 6:02d}"
    for run in (late, lost, night):
        assert "volume.clock" not in codes(live(run))


def again(n: int, scale: int = 2) -> list[Dataset]:
    def change(dataset: Dataset, volume: int, place: int) -> None:
        dataset.AcquisitionTime = f"1010{2 * volume:02d}.{place:06d}"
        dataset.PixelData = (scale * np.frombuffer(dataset.PixelData, "<i2")).astype("<i2").tobytes()

    return slices_of(n, change=change)


@pytest.mark.parametrize("n", [2, 4, 5])
def test_a_run_of_slices_that_is_started_again_under_one_uid_is_the_next(n: int) -> None:
    out = live([*slices_of(4), *again(n)])
    assert places(out) == [*((1, k) for k in range(4)), *((2, k) for k in range(n))]
    assert np.array_equal(volumes(out)[4].data, 2 * seen(planes(0)))
    assert not any(warning.lost for warning in warnings_in(out))


def test_one_that_was_stopped_within_a_volume_is_not_mixed_with_the_next() -> None:
    out = live([*slices_of(4)[:10], *again(4)])
    assert [ended.n_volumes for ended in ends(out)] == [2, 4]
    for k, volume in enumerate(volumes(out)[2:]):
        assert np.array_equal(volume.data, 2 * seen(planes(k)))
    assert any(warning.lost for warning in warnings_in(out) if warning.code == "volume.incomplete")


def test_a_run_of_slices_that_follows_one_of_a_declared_length() -> None:
    out = live([*slices_of(3), *again(3)], Expected(n_volumes=3))
    assert places(out) == [(run, k) for run in (1, 2) for k in range(3)]


def test_slices_that_are_sent_again_are_no_other_run() -> None:
    out = live([*slices_of(4), *slices_of(4)])
    assert places(out) == [(1, k) for k in range(4)]
    assert not any(warning.lost for warning in warnings_in(out))


def test_two_runs_in_one_series_of_a_folder_are_refused(tmp_path: Path) -> None:
    later = mosaics([100.0 + s for s in even(4)])
    for name, files in {"slices": [*slices_of(4), *again(4)], "mosaics": [*mosaics(even(4)), *later]}.items():
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(BadVolume, match="after 4 volumes the instance numbers restart") as caught:
            open_series(put(folder, files))
        assert caught.value.code == "series.several"
