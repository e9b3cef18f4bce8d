"""Counts that scanners get wrong: in folders and live, slices make the same volumes whichever field is lacking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.slice_gathering import SliceGathering, Stack
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.transports import Expected
from mindsight.volume import Volume
from support.dicom_files import N_SLICES, planes, put, raw, seen, slice_of, slices_of, written

Change = Callable[[Dataset, int, int], None]
N_VOLUMES = 4


def stated(count: int, private: int | None = None) -> Change:
    def change(dataset: Dataset, _volume: int, _place: int) -> None:
        dataset.ImagesInAcquisition = count
        if private is not None:
            dataset.private_block(0x0021, "GEMS_RELA_01", create=True).add_new(0x4F, "SS", private)

    return change


def philips_count(dataset: Dataset, _volume: int, _place: int) -> None:
    dataset.ImagesInAcquisition = N_SLICES * N_VOLUMES
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x18, "SL", N_SLICES)


def temporal(number: Callable[[int, int], int | None]) -> Change:
    def change(dataset: Dataset, volume: int, place: int) -> None:
        found = number(volume, place)
        if found is not None:
            dataset.TemporalPositionIdentifier = found

    return change


def numbered(number: Callable[[int, int], int]) -> Change:
    def change(dataset: Dataset, volume: int, place: int) -> None:
        dataset.InstanceNumber = number(volume, place)

    return change


def no_instance(dataset: Dataset, _volume: int, _place: int) -> None:
    del dataset.InstanceNumber


def dirty_instance(dataset: Dataset, _volume: int, _place: int) -> None:
    raw(dataset, "InstanceNumber", "none")


def temporal_of_half_and_same_instances(dataset: Dataset, volume: int, place: int) -> None:
    if place % 2:
        dataset.TemporalPositionIdentifier = volume + 1
    dataset.InstanceNumber = 1


RUNS: dict[str, Change | None] = {
    "right": None,
    "no count": lambda dataset, _volume, _place: None,
    "a multiple": stated(4 * N_SLICES),
    "a multiple beside GE's own": stated(4 * N_SLICES, N_SLICES),
    "GE's own a multiple too": stated(2 * N_SLICES, 2 * N_SLICES),
    "half": stated(N_SLICES // 2),
    "one": stated(1),
    "less than a volume": stated(N_SLICES - 1),
    "more than a volume": stated(N_SLICES + 1),
    "Philips' own": philips_count,
    "temporal": temporal(lambda volume, _place: volume + 1),
    "temporal from 0": temporal(lambda volume, _place: volume),
    "temporal constant": temporal(lambda _volume, _place: 1),
    "temporal missing in some": temporal(lambda volume, place: None if place == 2 else volume + 1),
    "temporal counts slices": temporal(lambda _volume, place: place + 1),
    "instances from 0": numbered(lambda volume, place: volume * N_SLICES + place),
    "instances negative": numbered(lambda volume, place: volume * N_SLICES + place - 5 * N_SLICES),
    "instances all the same": numbered(lambda _volume, _place: 1),
    "no instances": no_instance,
    "instances that are none": dirty_instance,
    "half of everything": temporal_of_half_and_same_instances,
}


def live(datasets: list[Dataset], expected: Expected | None = None) -> list[Volume]:
    assembler = Assembler(expected or Expected(), late_s=1.0)
    items = [item for dataset in datasets for item in assembler.add(Arrival(written(dataset), 0.0), 0.0)]
    return [item for item in (*items, *assembler.finish()) if isinstance(item, Volume)]


def assert_run(volumes: list[Volume], n_volumes: int = N_VOLUMES) -> None:
    assert [volume.index for volume in volumes] == list(range(n_volumes))
    for k, volume in enumerate(volumes):
        assert np.array_equal(volume.data, seen(planes(k)))


@pytest.mark.parametrize("what", RUNS)
def test_a_folder_is_its_volumes_whatever_is_counted(what: str, tmp_path: Path) -> None:
    run = slices_of(N_VOLUMES, change=RUNS[what])
    order = np.random.default_rng(1).permutation(len(run))
    assert_run(list(open_series(put(tmp_path, [run[k] for k in order]))))


@pytest.mark.parametrize("what", RUNS)
@pytest.mark.parametrize("declared", [False, True])
def test_live_slices_are_their_volumes_whatever_is_counted(what: str, declared: bool) -> None:
    expected = Expected(shape=(4, 4, N_SLICES)) if declared else None
    assert_run(live(slices_of(N_VOLUMES, change=RUNS[what]), expected))


@pytest.mark.parametrize("count", [N_SLICES, 4 * N_SLICES, None])
def test_slices_that_overtake_each_other(count: int | None) -> None:
    """As several connections bring them: the second volume begins before the first one's last slice is there."""
    run = slices_of(N_VOLUMES, change=None if count is None else stated(count))
    run[2], run[6] = run[6], run[2]
    run[3], run[5] = run[5], run[3]
    assert_run(live(run))


def test_instances_through_time_first(tmp_path: Path) -> None:
    """Philips' archives, here without temporal positions."""
    run = [slice_of(v, z, z * N_VOLUMES + v + 1) for z in range(N_SLICES) for v in range(N_VOLUMES)]
    assert_run(list(open_series(put(tmp_path, run))))


def test_a_lost_slice_costs_its_volume_where_counts_are_wrong(tmp_path: Path) -> None:
    run = slices_of(N_VOLUMES, change=stated(4 * N_SLICES))
    del run[N_SLICES + 1]
    met: list[BadVolume] = []
    assert [volume.index for volume in open_series(put(tmp_path, run), on_bad=met.append)] == [0, 2, 3]
    assert [error.code for error in met][:1] == ["series.incomplete"]
    assert [volume.index for volume in live(run)] == [0, 2, 3]


def test_a_volume_lost_at_the_start_is_a_gap() -> None:
    run = slices_of(N_VOLUMES)
    del run[N_SLICES : 2 * N_SLICES]
    assert [volume.index for volume in live(run)] == [0, 2, 3]


def test_one_volume_is_given_when_no_more_comes() -> None:
    for declared, n_at_once in ((None, 0), (N_SLICES, 1)):
        gathering = SliceGathering(declared)
        records = [read_dicom(written(dataset)) for dataset in slices_of(1, change=RUNS["temporal"])]
        at_once = [one for k, record in enumerate(records) for one in gathering.add("a", record, float(k))]
        assert len(at_once) == n_at_once
        (volume,) = [*at_once, *gathering.finish()]
        assert isinstance(volume, Stack)
        assert (volume.position, len(volume.records), volume.arrived_s) == (0, N_SLICES, N_SLICES - 1.0)
        assert gathering.held_bytes == 0


def test_slices_that_nothing_counts_are_refused(tmp_path: Path) -> None:
    def change(dataset: Dataset, volume: int, place: int) -> None:
        no_instance(dataset, volume, place)
        del dataset.AcquisitionTime

    with pytest.raises(BadVolume, match="a temporal position, an instance number or their time") as caught:
        open_series(put(tmp_path, slices_of(2, change=change)))
    assert caught.value.code == "dicom.no_number"
