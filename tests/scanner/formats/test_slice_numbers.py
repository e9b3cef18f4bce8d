"""Slices and volumes whose numbers restart, are equal or are missing; copies; positions that move slightly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.slice_locations import SliceLocations
from mindsight.volume import Volume
from support.dicom_files import csa_of_mosaic, enhanced, mosaic, planes, put, seen, slices_of, written

Change = Callable[[Dataset, int, int], None]


def live(objects: Sequence[Dataset]) -> list[Volume]:
    assembler, items = Assembler(Expected(), 3.0), []
    for k, dataset in enumerate(objects):
        items += assembler.add(Arrival(written(dataset), 1000.0 + k, k + 1), float(k))
    return [item for item in [*items, *assembler.finish()] if isinstance(item, Volume)]


def assert_are(volumes: Sequence[Volume], expected: Sequence[int]) -> None:
    assert [volume.index for volume in volumes] == list(expected)
    for volume in volumes:
        assert np.array_equal(volume.data, seen(planes(volume.index)))


def acquisitions_count(dataset: Dataset, volume: int, place: int) -> None:
    dataset.InstanceNumber, dataset.AcquisitionNumber = place + 1, volume + 1
    del dataset.AcquisitionTime


def acquisitions_alone(dataset: Dataset, volume: int, _place: int) -> None:
    dataset.AcquisitionNumber = volume + 7
    del dataset.InstanceNumber, dataset.AcquisitionTime


def clock_counts(dataset: Dataset, volume: int, place: int) -> None:
    dataset.InstanceNumber, dataset.AcquisitionNumber = place + 1, 1


def one_moment_for_a_volume(dataset: Dataset, volume: int, _place: int) -> None:
    del dataset.InstanceNumber
    dataset.AcquisitionTime = f"1000{2 * volume:02d}"


def past_midnight(dataset: Dataset, volume: int, place: int) -> None:
    del dataset.InstanceNumber, dataset.AcquisitionDate
    seconds = (86_396 + 2 * volume) % 86_400
    dataset.AcquisitionTime = f"{seconds // 3600:02d}{seconds % 3600 // 60:02d}{seconds % 60:02d}.{place:06d}"


COUNTS = [acquisitions_count, acquisitions_alone, clock_counts, one_moment_for_a_volume, past_midnight]


@pytest.mark.parametrize("change", COUNTS)
def test_numbers_that_restart_with_each_volume(change: Change, tmp_path: Path) -> None:
    run = slices_of(5, change=change)
    assert_are(live(run), range(5))
    assert_are(list(open_series(put(tmp_path, run[::-1]))), range(5))


@pytest.mark.parametrize("change", COUNTS)
def test_a_slice_that_is_lost_moves_no_other_into_its_volume(change: Change) -> None:
    run = slices_of(6, change=change)
    del run[4 * 3 + 2]
    assert_are(live(run), (0, 1, 2, 4, 5))


@pytest.mark.parametrize("change", COUNTS)
def test_slices_that_come_again_are_no_other_volume(change: Change, tmp_path: Path) -> None:
    run = slices_of(5, change=change)
    assert_are(live([*run[:10], run[9], run[2], *run[10:]]), range(5))
    series = open_series(put(tmp_path, [*run, run[9], run[2]]))
    assert_are(list(series), range(5))
    assert series.notes[0] == "left out 2 copies of other files"


@pytest.mark.parametrize("kind", ["mosaic", "enhanced"])
def test_a_copy_of_a_file_is_left(kind: str, tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic()) if kind == "mosaic" else enhanced(1, number=k) for k in (1, 2, 3)]
    series = open_series(put(tmp_path, [*run, run[1]]))
    assert series.n_volumes == len(list(series)) == 3
    assert "left out a copy of another file" in series.notes


def test_another_slice_with_the_same_numbers_is_refused_as_that(tmp_path: Path) -> None:
    run = slices_of(3)
    other = slices_of(3)[5]
    other.PixelData = bytes(len(other.PixelData))
    with pytest.raises(BadVolume, match="got 5 at 4 positions; remove the duplicates"):
        open_series(put(tmp_path, [*run, other]))


@pytest.mark.parametrize("step_mm", [1e-6, 0.004, 0.2])
def test_positions_that_differ_by_a_little_from_volume_to_volume(step_mm: float, tmp_path: Path) -> None:
    def change(dataset: Dataset, volume: int, place: int) -> None:
        moved = (-1) ** volume * step_mm
        dataset.ImagePositionPatient = [0.005 + moved, moved, 3.5 * place + 0.005 + moved]

    run = slices_of(4, change=change)
    assert_are(live(run), range(4))
    assert_are(list(open_series(put(tmp_path, run))), range(4))


def test_thin_slices_are_not_one_place() -> None:
    known, found = SliceLocations(), set()
    for dataset in slices_of(1):
        dataset.ImagePositionPatient = [0.0, 0.0, dataset.ImagePositionPatient[2] / 7.0]
        dataset.SpacingBetweenSlices = 0.5
        found.add(known.follow(read_dicom(written(dataset), header_only=True)))
    assert len(found) == 4


def test_slices_of_either_sign_are_one_volume(tmp_path: Path) -> None:
    def change(dataset: Dataset, _volume: int, place: int) -> None:
        dataset.PixelRepresentation = place % 2

    assert_are(list(open_series(put(tmp_path, slices_of(2, change=change)))), range(2))
