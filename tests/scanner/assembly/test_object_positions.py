"""Objects with whole volumes whose numbers do not count them: live, by acquisition number, clock, or as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.transports import Item
from support.dicom_files import csa_of_mosaic, enhanced, mosaic, planes, seen, written
from support.taking import codes, ends, places, volumes, warnings_in

Change = Callable[[Dataset, int], None]


def live(objects: Sequence[Dataset]) -> list[Item]:
    assembler, items = Assembler(Expected(), 3.0), list[Item]()
    for k, dataset in enumerate(objects):
        items += [*assembler.add(Arrival(written(dataset), 1000.0 + k, k + 1), float(k)), *assembler.tick(float(k))]
    return [*items, *assembler.finish()]


def run_of(kind: str, n: int, change: Change, n_in_object: int = 1) -> list[Dataset]:
    run = []
    for k in range(1, n + 1):
        if kind == "mosaic":
            dataset = mosaic(k, csa_of_mosaic())
        else:
            dataset = enhanced(n_in_object, number=1 + (k - 1) * n_in_object)
            for place, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
                second = 2 * ((k - 1) * n_in_object + place // 4)
                groups.FrameContentSequence[
                    0
                ].FrameAcquisitionDateTime = f"202401021000{second:02d}.{place % 4 * 100_000:06d}"
        change(dataset, k)
        run.append(dataset)
    return run


def values_are(items: list[Item], expected: Sequence[int]) -> None:
    for volume, k in zip(volumes(items), expected, strict=True):
        assert np.array_equal(volume.data, seen(planes(k)))


def one_number(dataset: Dataset, _k: int) -> None:
    dataset.InstanceNumber = dataset.AcquisitionNumber = 1


def no_number(dataset: Dataset, _k: int) -> None:
    del dataset.InstanceNumber
    if "AcquisitionNumber" in dataset:
        del dataset.AcquisitionNumber


def no_number_in_one(dataset: Dataset, k: int) -> None:
    if k == 3:
        no_number(dataset, k)


def no_clock(change: Change) -> Change:
    def both(dataset: Dataset, k: int) -> None:
        change(dataset, k)
        if "AcquisitionTime" in dataset:
            dataset.AcquisitionTime = "000000.000000"
        for groups in dataset.get("PerFrameFunctionalGroupsSequence", ()):
            del groups.FrameContentSequence[0].FrameAcquisitionDateTime

    return both


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (one_number, "clock"),
        (no_number, "clock"),
        (no_number_in_one, "clock"),
        (no_clock(one_number), "as they arrive"),
        (no_clock(no_number), "as they arrive"),
    ],
)
@pytest.mark.parametrize("kind", ["mosaic", "enhanced"])
def test_volumes_that_no_number_counts_are_all_there_in_order(kind: str, change: Change, word: str) -> None:
    items = live(run_of(kind, 5, change))
    assert places(items) == [(1, k) for k in range(5)]
    values_are(items, range(5) if kind == "enhanced" else range(1, 6))
    assert [word in warning.text for warning in warnings_in(items)] == [True]
    assert not any(warning.lost for warning in warnings_in(items))


def test_acquisition_numbers_count_where_instance_numbers_are_one_or_restart() -> None:
    def one(dataset: Dataset, _k: int) -> None:
        dataset.InstanceNumber = 1

    def restarted(dataset: Dataset, k: int) -> None:
        dataset.InstanceNumber = (k - 1) % 2 + 1

    for change in (one, restarted):
        run = run_of("mosaic", 6, change)
        items = live([run[k] for k in (0, 1, 3, 2, 5)])  # two change places, one is lost
        assert places(items) == [(1, k) for k in (0, 1, 2, 3, 5)]
        assert codes(items) == ["volume.missing"]


def test_the_clock_shows_a_gap_and_a_volume_that_comes_late() -> None:
    run = run_of("mosaic", 7, one_number)
    items = live([run[k] for k in (0, 1, 3, 2, 6)])
    assert places(items) == [(1, k) for k in (0, 1, 2, 3, 6)]
    values_are(items, (1, 2, 3, 4, 7))


def test_the_first_two_may_change_places() -> None:
    run = run_of("mosaic", 4, one_number)
    values_are(live([run[k] for k in (1, 0, 2, 3)]), (1, 2, 3, 4))


def test_a_pause_is_no_gap() -> None:
    def change(dataset: Dataset, k: int) -> None:
        one_number(dataset, k)
        if k > 3:
            dataset.AcquisitionTime = f"1000{2 * k + 7:02d}.000000"  # 3.5 steps late

    assert places(live(run_of("mosaic", 6, change))) == [(1, k) for k in range(6)]


def test_midnight_without_a_date() -> None:
    def change(dataset: Dataset, k: int) -> None:
        one_number(dataset, k)
        del dataset.AcquisitionDate
        seconds = (86_396 + 2 * k) % 86_400
        dataset.AcquisitionTime = f"{seconds // 3600:02d}{seconds % 3600 // 60:02d}{seconds % 60:02d}.000000"

    items = live(run_of("mosaic", 5, change))
    assert places(items) == [(1, k) for k in range(5)]
    values_are(items, range(1, 6))


def test_the_same_object_again_is_no_other_volume() -> None:
    for change in (one_number, no_clock(no_number)):
        run = run_of("mosaic", 4, change)
        items = live([run[k] for k in (0, 1, 1, 2, 0, 3)])
        assert places(items) == [(1, k) for k in range(4)]
        values_are(items, range(1, 5))
        assert codes(items).count("volume.doubled") == 2


def test_several_volumes_in_each_object() -> None:
    items = live(run_of("enhanced", 3, one_number, 2))
    assert places(items) == [(1, k) for k in range(6)]
    values_are(items, range(6))
    assert len(ends(items)) == 1


def test_two_series_are_two_runs() -> None:
    run = run_of("mosaic", 6, one_number)
    for dataset in run[3:]:
        dataset.SeriesInstanceUID = "2.25.9"
    items = live(run)
    assert places(items) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]


def test_numbers_that_go_up_by_two_are_no_gaps_where_the_clock_has_none() -> None:
    def change(dataset: Dataset, k: int) -> None:
        dataset.InstanceNumber = dataset.AcquisitionNumber = 2 * k

    items = live(run_of("mosaic", 5, change))
    assert places(items) == [(1, k) for k in range(5)]
    assert {volume.tr_s for volume in volumes(items)} == {2.0}
    assert codes(items) == ["run.numbering"]


def test_a_gap_after_the_first_volume_is_one_where_the_clock_has_it_too() -> None:
    run = run_of("mosaic", 6, lambda _dataset, _k: None)
    items = live([run[k] for k in (0, 2, 3, 4, 5)])
    assert places(items) == [(1, k) for k in (0, 2, 3, 4, 5)]
    assert codes(items) == ["volume.missing"]


def test_temporal_positions_count_where_nothing_else_does() -> None:
    def change(dataset: Dataset, k: int) -> None:
        no_clock(one_number)(dataset, k)
        dataset.TemporalPositionIdentifier = k
        for groups in dataset.get("PerFrameFunctionalGroupsSequence", ()):
            groups.FrameContentSequence[0].TemporalPositionIndex = k

    for kind in ("mosaic", "enhanced"):
        run = run_of(kind, 6, change)
        items = live([run[k] for k in (0, 1, 3, 2, 5)])
        assert places(items) == [(1, k) for k in (0, 1, 2, 3, 5)]
        assert codes(items) == ["volume.missing"]


@pytest.mark.parametrize("n_before", [1, 3])
def test_a_mosaic_without_its_csa_header_runs_as_the_others_of_its_series(n_before: int) -> None:
    run = [mosaic(k, csa_of_mosaic(normal_z=-1.0)) for k in range(1, 6)]
    del run[n_before][0x00291010]
    items = live(run)
    for k, volume in enumerate(volumes(items), 1):
        assert np.array_equal(volume.data, seen(planes(k))[:, :, ::-1])
    assert not warnings_in(items)
