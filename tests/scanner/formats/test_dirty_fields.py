"""Dates that are no dates, decimal commas, padding: a dirty field refuses no file that can do without it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.moments import moment_seconds, seconds
from mindsight.scanner.formats.written import first_number, numbers, texts
from support.dicom_files import csa_of_mosaic, enhanced, mosaic, planes, put, raw, seen, slices_of, written

DAY = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
NOON = 12 * 3600.0


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20200101", "120000", DAY + NOON),
        ("2020.01.01", "12:00:00", DAY + NOON),
        ("2020-01-01", "12:00:00.5", DAY + NOON + 0.5),
        (" 20200101 ", "120000,25 ", DAY + NOON + 0.25),
        ("20200101", "120000.1234567", DAY + NOON + 0.1234567),
        ("20200101", "12", DAY + NOON),
        ("20200101", "115960", DAY + NOON),  # a leap second
        ("20200101", "120000+0100", DAY + NOON - 3600.0),
        ("00000000", "120000", NOON),
        ("20201399", "120000", NOON),
        ("20200230", "120000", NOON),
        ("", "120000", NOON),
        ("removed", "120000", NOON),
        ("2020.0101", "120000", NOON),
        ("20200101", "", None),
        ("20200101", "250000", None),
        ("20200101", "126100", None),
        ("20200101", "noon", None),
        ("20200101", "120000.5.5", None),
    ],
)
def test_moments_as_they_are_written(date: str, time: str, expected: float | None) -> None:
    assert seconds(date, time, "") == (None if expected is None else pytest.approx(expected, abs=1e-6))


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("20200101120000.5", DAY + NOON + 0.5),
        ("2020.01.01 12:00:00", DAY + NOON),
        ("2020-01-01T12:00:00-0100", DAY + NOON + 3600.0),
        ("20200101", None),
        ("00000000120000", NOON),
        ("noon", None),
        ("", None),
    ],
)
def test_moments_in_one(moment: str, expected: float | None) -> None:
    assert moment_seconds(moment, "") == expected


def test_a_moment_that_is_only_a_date_leaves_date_and_time() -> None:
    dataset = mosaic(1, csa_of_mosaic())
    dataset.AcquisitionDateTime = "20240102"
    assert read_dicom(written(dataset)).frames[0].acquired_s == datetime(2024, 1, 2, 10, 0, 2, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("date", ["00000000", "20201399", "2024.01.02", "", "1900-01-01"])
def test_a_run_keeps_its_clock_whatever_the_date_is(date: str, tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) for k in (1, 2, 3)]
    for dataset in run:
        raw(dataset, "AcquisitionDate", date)
    volumes = list(open_series(put(tmp_path, run)))
    assert np.diff([volume.acquired_s or 0.0 for volume in volumes]).tolist() == [2.0, 2.0]
    assert np.array_equal(volumes[2].data, seen(planes(3)))


@pytest.mark.parametrize(
    ("value", "count", "expected"),
    [
        ("2000,0", 1, (2000.0,)),
        (" 2000.0\0", 1, (2000.0,)),
        ("3,5\\ 3.5 ", 2, (3.5, 3.5)),
        ("2e3", None, (2000.0,)),
        ("1,234.5", None, None),
        ("ZQXJ", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("1e300", None, None),
        ("3\\x", 2, None),
        ("1\\2", 1, None),
        (b"18", 1, (18.0,)),
        (b"\x06\x00", 1, (6.0,)),
        (b"\x06", 1, None),
        (b"", 1, None),
        (["1", "2,5"], 2, (1.0, 2.5)),
        ([], None, None),
        (None, None, None),
        ("", None, None),
    ],
)
def test_numbers_as_they_are_written(value: object, count: int | None, expected: tuple[float, ...] | None) -> None:
    assert numbers(value, count, "H") == expected


def test_several_where_one_is_meant() -> None:
    assert first_number("2000\\2000") == 2000.0
    assert texts("A \\B\0") == ("A", "B")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RepetitionTime", "2000,0"),
        ("RepetitionTime", " 2000.0 "),
        ("RepetitionTime", "2000\\2000"),
        ("PixelSpacing", "3,0\\3,0"),
        ("ImagePositionPatient", "0,0\\0,0\\0,0"),
        ("SpacingBetweenSlices", "3,5"),
        ("InstanceNumber", " 1 "),
        ("AcquisitionTime", "10:00:02.0"),
        ("TemporalPositionIdentifier", "none"),
        ("ImagesInAcquisition", "-"),
        ("EchoTime", "n/a"),
        ("TriggerTime", "x"),
        ("BitsStored", "xx"),
    ],
)
def test_a_dirty_field_is_read_or_left(keyword: str, value: str, tmp_path: Path) -> None:
    dataset = mosaic(1, csa_of_mosaic())
    raw(dataset, keyword, value)
    series = open_series(put(tmp_path, [dataset]))
    (volume,) = series
    assert series.tr_s == 2.0
    assert np.array_equal(volume.data, seen(planes(1)))
    assert np.diag(volume.affine)[:3].tolist() == [-3.0, 3.0, 3.5]


@pytest.mark.parametrize(
    ("keyword", "value", "named"),
    [
        ("PixelSpacing", "ZQXJ", "no readable pixel spacing;"),
        ("ImagePositionPatient", "1\\2", "no readable position;"),
        ("ImageOrientationPatient", "ZQXJ", "no readable orientation;"),
    ],
)
def test_a_field_that_matters_is_named(keyword: str, value: str, named: str, tmp_path: Path) -> None:
    dataset = mosaic(1, csa_of_mosaic())
    raw(dataset, keyword, value)
    with pytest.raises(BadVolume, match=named) as caught:
        open_series(put(tmp_path, [dataset]))
    assert "ZQXJ" not in str(caught.value)


def test_an_enhanced_objects_dirty_moments_leave_the_clock_unknown(tmp_path: Path) -> None:
    dataset = enhanced(1)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        raw(groups.FrameContentSequence[0], "FrameAcquisitionDateTime", "20240102")
    (volume,) = open_series(put(tmp_path, [dataset]))
    assert volume.acquired_s is None
    assert volume.slice_times_s is None
    assert np.array_equal(volume.data, seen(planes(0)))


def test_slices_without_any_date_are_a_run(tmp_path: Path) -> None:
    run = slices_of(2, change=lambda dataset, _volume, _place: raw(dataset, "AcquisitionDate", "00000000"))
    volumes = list(open_series(put(tmp_path, run)))
    assert [volume.acquired_s for volume in volumes] == [36000.0, 36002.0]
