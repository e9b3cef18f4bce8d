"""Volumes of an enhanced object whichever field distinguishes them, and macros wherever the standard allows them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.formats.dicom_header import read_dicom
from support.dicom_files import N_SLICES, enhanced, item, planes, put, seen, written

N_VOLUMES = 3
STACK, PLACE, TIME, OFFSET, ECHO = 0x00209056, 0x00209057, 0x00209128, 0x0020930D, 0x00189082


def frames_of(dataset: Dataset) -> list[Dataset]:
    return list(dataset.PerFrameFunctionalGroupsSequence)


def indexed(dataset: Dataset, pointers: list[int], values: Callable[[int, int], list[int]]) -> None:
    """Dimension indices in place of temporal positions and clocks."""
    dataset.DimensionIndexSequence = Sequence([Dataset() for _ in pointers])
    for dimension, pointer in zip(dataset.DimensionIndexSequence, pointers, strict=True):
        dimension.DimensionIndexPointer = pointer
    for k, groups in enumerate(frames_of(dataset)):
        content = groups.FrameContentSequence[0]
        del content.TemporalPositionIndex
        del content.FrameAcquisitionDateTime
        content.DimensionIndexValues = values(k // N_SLICES, k % N_SLICES)


def shuffled(dataset: Dataset) -> Dataset:
    order = np.random.default_rng(2).permutation(int(dataset.NumberOfFrames))
    frames, pixels = frames_of(dataset), dataset.pixel_array
    dataset.PerFrameFunctionalGroupsSequence = Sequence([frames[k] for k in order])
    dataset.PixelData = pixels[order].astype("<i2").tobytes()
    return dataset


def assert_run(folder: Path, dataset: Dataset, n_volumes: int = N_VOLUMES) -> None:
    series = open_series(put(folder, [dataset]))
    volumes = list(series)
    assert series.tr_s == 2.0
    assert [volume.index for volume in volumes] == list(range(n_volumes))
    for k, volume in enumerate(volumes):
        assert np.array_equal(volume.data, seen(planes(k)))


@pytest.mark.parametrize(
    ("pointers", "values"),
    [
        ([STACK, PLACE, TIME], lambda v, z: [1, z + 1, v + 1]),
        ([STACK, TIME, PLACE], lambda v, z: [1, v + 1, z + 1]),
        ([OFFSET, PLACE], lambda v, z: [v + 1, z + 1]),
        ([STACK, PLACE], lambda v, z: [1, z + 1, v + 1]),  # the third has no pointer
        ([], lambda v, z: [1, z + 1, v + 1]),
    ],
)
def test_volumes_that_only_the_dimension_index_distinguishes(
    pointers: list[int], values: Callable[[int, int], list[int]], tmp_path: Path
) -> None:
    dataset = enhanced(N_VOLUMES)
    indexed(dataset, pointers, values)
    assert_run(tmp_path, shuffled(dataset))


def no_positions(dataset: Dataset) -> None:
    for groups in frames_of(dataset):
        del groups.FrameContentSequence[0].TemporalPositionIndex


def constant(dataset: Dataset) -> None:
    for groups in frames_of(dataset):
        groups.FrameContentSequence[0].TemporalPositionIndex = 1


def of_some(dataset: Dataset) -> None:
    for groups in frames_of(dataset)[1::3]:
        del groups.FrameContentSequence[0].TemporalPositionIndex


def reference_clock(dataset: Dataset) -> None:
    for groups in frames_of(dataset):
        content = groups.FrameContentSequence[0]
        content.FrameReferenceDateTime = content.FrameAcquisitionDateTime
        del content.FrameAcquisitionDateTime
        del content.TemporalPositionIndex


@pytest.mark.parametrize("change", [no_positions, constant, of_some, reference_clock])
def test_without_a_number_place_and_clock_tell_volumes_apart(change: Callable[[Dataset], None], tmp_path: Path) -> None:
    dataset = enhanced(N_VOLUMES)
    change(dataset)
    assert_run(tmp_path, shuffled(dataset))


def test_without_any_clock_frames_are_taken_as_they_come(tmp_path: Path) -> None:
    dataset = enhanced(N_VOLUMES)
    for groups in frames_of(dataset):
        del groups.FrameContentSequence
    assert_run(tmp_path, dataset)


def test_positions_that_count_slices_make_one_volume(tmp_path: Path) -> None:
    dataset = enhanced(1)
    for k, groups in enumerate(frames_of(dataset), 1):
        groups.FrameContentSequence[0].TemporalPositionIndex = k
    assert_run(tmp_path, shuffled(dataset), 1)


def test_positions_with_a_gap_stay_a_gap(tmp_path: Path) -> None:
    dataset = enhanced(2)
    for groups in frames_of(dataset)[N_SLICES:]:
        groups.FrameContentSequence[0].TemporalPositionIndex = 4
    assert [volume.index for volume in open_series(put(tmp_path, [dataset]))] == [0, 3]


MACROS = [
    *("MRTimingAndRelatedParametersSequence", "MREchoSequence", "PixelMeasuresSequence", "PlaneOrientationSequence"),
]


@pytest.mark.parametrize("macro", [*MACROS, "all"])
def test_a_macro_in_the_frames_own_groups(macro: str, tmp_path: Path) -> None:
    dataset = enhanced(2)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for keyword in MACROS if macro == "all" else [macro]:
        for groups in frames_of(dataset):
            setattr(groups, keyword, deepcopy(shared[keyword].value))
        delattr(shared, keyword)
    if macro == "all":
        del dataset.SharedFunctionalGroupsSequence
    assert_run(tmp_path, dataset, 2)
    record = read_dicom(written(dataset))
    assert {frame.echo_time_ms for frame in record.frames} == {30.0}


def test_a_macro_of_the_frame_that_lacks_a_value_leaves_the_shared_one(tmp_path: Path) -> None:
    dataset = enhanced(2)
    for groups in frames_of(dataset):
        groups.MRTimingAndRelatedParametersSequence = item(FlipAngle=80.0)
        groups.PixelMeasuresSequence = item(SliceThickness=3.5)
    assert_run(tmp_path, dataset, 2)


def test_a_macro_in_the_shared_groups_that_is_the_frames_by_habit(tmp_path: Path) -> None:
    dataset = enhanced(2)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = item(RescaleSlope=2.0, RescaleIntercept=1.0)
    for groups in frames_of(dataset):
        del groups.PixelValueTransformationSequence
    (first, _) = open_series(put(tmp_path, [dataset]))
    assert np.array_equal(first.data, seen(planes(0)) * 2.0 + 1.0)


def test_echoes_that_are_a_dimension_are_numbered() -> None:
    dataset = enhanced(1)
    indexed(dataset, [PLACE, ECHO], lambda _v, z: [z // 2 + 1, z % 2 + 1])
    assert [frame.echo_number for frame in read_dicom(written(dataset)).frames] == [1, 2, 1, 2]


def test_several_stacks_are_named(tmp_path: Path) -> None:
    dataset = enhanced(1)
    for k, groups in enumerate(frames_of(dataset)):
        groups.FrameContentSequence[0].StackID = str(k // 2)
        if k > 1:
            groups.PlanePositionSequence = item(ImagePositionPatient=[0.0, 0.0, 100.0 + 3.5 * k])
    with pytest.raises(BadVolume, match="got 2 stacks") as caught:
        open_series(put(tmp_path, [dataset]))
    assert caught.value.code == "dicom.not_a_stack"


def test_stacks_that_go_on_in_each_other_are_one(tmp_path: Path) -> None:
    dataset = enhanced(2)
    for k, groups in enumerate(frames_of(dataset)):
        groups.FrameContentSequence[0].StackID = str(k % N_SLICES // 2)
    assert_run(tmp_path, dataset, 2)
