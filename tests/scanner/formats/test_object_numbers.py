"""The order of mosaics and enhanced objects where instance numbers are lacking, one for all, or begin anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from support.dicom_files import csa_of_mosaic, enhanced, mosaic, planes, put, raw, seen

Change = Callable[[Dataset, int], None]


def instances(number: Callable[[int], int]) -> Change:
    def change(dataset: Dataset, k: int) -> None:
        dataset.InstanceNumber = number(k)

    return change


def no_instance(dataset: Dataset, _k: int) -> None:
    del dataset.InstanceNumber


def dirty_instance(dataset: Dataset, _k: int) -> None:
    raw(dataset, "InstanceNumber", "none")


def no_number(dataset: Dataset, _k: int) -> None:
    del dataset.InstanceNumber
    dataset.AcquisitionNumber = 1


def missing_in_one(dataset: Dataset, k: int) -> None:
    if k == 2:
        del dataset.InstanceNumber
        dataset.AcquisitionNumber = 1


def later(dataset: Dataset, k: int) -> Dataset:
    """An enhanced object that began k times 2 s later; its acquisition has no number."""
    for place, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].FrameAcquisitionDateTime = f"202401021000{2 * k:02d}.{place * 100_000:06d}"
    return dataset


@pytest.mark.parametrize(
    "change",
    [
        instances(lambda k: k - 1),
        instances(lambda k: k - 7),
        instances(lambda _k: 1),
        instances(lambda _k: 0),
        no_instance,
        dirty_instance,
        no_number,
        missing_in_one,
    ],
)
@pytest.mark.parametrize("kind", ["mosaic", "enhanced"])
def test_objects_are_in_order_by_what_distinguishes_them(change: Change, kind: str, tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) if kind == "mosaic" else later(enhanced(1, number=k), k) for k in range(1, 5)]
    for k, dataset in enumerate(run, 1):
        change(dataset, k)
    volumes = list(open_series(put(tmp_path, [run[k] for k in (2, 0, 3, 1)])))
    assert [volume.index for volume in volumes] == [0, 1, 2, 3]
    for k, volume in enumerate(volumes, kind == "mosaic"):
        assert np.array_equal(volume.data, seen(planes(k)))


def test_one_object_needs_no_number(tmp_path: Path) -> None:
    dataset = mosaic(1, csa_of_mosaic())
    del dataset.InstanceNumber, dataset.AcquisitionNumber, dataset.AcquisitionTime
    assert open_series(put(tmp_path, [dataset])).n_volumes == 1


def test_objects_that_nothing_distinguishes_are_refused(tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) for k in (1, 2, 3)]
    for dataset in run:
        no_number(dataset, 1)
        dataset.AcquisitionTime = "100000"
    with pytest.raises(BadVolume, match="different instance numbers") as caught:
        open_series(put(tmp_path, run))
    assert caught.value.code == "dicom.no_number"


def test_times_of_day_without_a_date_go_on_past_midnight(tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) for k in range(1, 5)]
    for k, dataset in enumerate(run):
        no_number(dataset, k)
        raw(dataset, "AcquisitionDate", "00000000" if k % 2 else "")
        seconds = (86_396 + 2 * k) % 86_400
        dataset.AcquisitionTime = f"{seconds // 3600:02d}{seconds % 3600 // 60:02d}{seconds % 60:02d}.5"
    for k, volume in enumerate(open_series(put(tmp_path, run)), 1):
        assert np.array_equal(volume.data, seen(planes(k)))


@pytest.mark.parametrize("kind", ["mosaic", "enhanced"])
@pytest.mark.parametrize(
    ("number", "note"),
    [(lambda k: 2 * k - 1, "go up by 2"), (lambda k: 3 * k, "go up by 3"), (lambda k: 9 - k, "against")],
)
def test_numbers_that_a_steady_clock_contradicts(
    number: Callable[[int], int], note: str, kind: str, tmp_path: Path
) -> None:
    run = [mosaic(k, csa_of_mosaic()) if kind == "mosaic" else later(enhanced(1, number=k), k) for k in range(1, 6)]
    for k, dataset in enumerate(run, 1):
        dataset.InstanceNumber = dataset.AcquisitionNumber = number(k)
    series = open_series(put(tmp_path, run))
    assert (series.n_volumes, series.tr_s) == (5, 2.0)
    for k, volume in enumerate(series):
        assert volume.index == k
        assert np.array_equal(volume.data, seen(planes(k + (kind == "mosaic"))))
    assert note in series.notes[0]


def test_gaps_that_the_clock_has_too_are_gaps(tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) for k in (1, 3, 5, 7)]  # 4 s apart, of a repetition time of 2 s
    series = open_series(put(tmp_path, run))
    assert (series.tr_s, [volume.index for volume in series]) == (2.0, [0, 2, 4, 6])


def test_numbers_that_no_steady_clock_contradicts_count(tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) for k in range(1, 6)]
    for dataset, time in zip(run, ("100008", "100000", "100003", "100001", "100004"), strict=True):
        dataset.AcquisitionTime = time
    for k, volume in enumerate(open_series(put(tmp_path, run), tr_s=None), 1):
        assert np.array_equal(volume.data, seen(planes(k)))


@pytest.mark.parametrize("kind", ["mosaic", "enhanced"])
def test_temporal_positions_count_where_nothing_else_does(kind: str, tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) if kind == "mosaic" else enhanced(1, number=k) for k in range(1, 5)]
    for k, dataset in enumerate(run, 1):
        dataset.InstanceNumber = dataset.AcquisitionNumber = 1
        if kind == "mosaic":
            dataset.TemporalPositionIdentifier, dataset.AcquisitionTime = k, ""
        for groups in dataset.get("PerFrameFunctionalGroupsSequence", ()):
            groups.FrameContentSequence[0].TemporalPositionIndex = k
            groups.FrameContentSequence[0].FrameAcquisitionDateTime = ""
    for k, volume in enumerate(open_series(put(tmp_path, run[::-1])), kind == "mosaic"):
        assert np.array_equal(volume.data, seen(planes(k)))


def test_a_mosaic_without_its_csa_header_runs_as_the_others_of_its_series(tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic(normal_z=-1.0)) for k in range(1, 5)]
    for k in (0, 2):
        del run[k][0x00291010]
    series = open_series(put(tmp_path, run))
    for k, volume in enumerate(series, 1):
        assert np.array_equal(volume.data, seen(planes(k))[:, :, ::-1])
    assert not series.notes
