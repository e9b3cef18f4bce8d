"""Slices whose positions move from volume to volume, as with prospective motion correction, in files and live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.transports import Expected
from mindsight.volume import Volume
from support.dicom_files import N_SLICES, mosaic, planes, put, seen, slice_of, slices_of, written

N_VOLUMES = 5
Change = Callable[[Dataset, int, int], None]


def shifted(dataset: Dataset, volume: int, place: int) -> None:
    dataset.ImagePositionPatient = [0.3 * volume, 0.1 * volume, 3.5 * place + 0.2 * volume]


def far(dataset: Dataset, volume: int, place: int) -> None:
    """More than a slice's thickness in all, and past the places where other slices were."""
    dataset.ImagePositionPatient = [0.0, 0.0, 3.5 * place + 1.4 * volume]


def shifted_later(dataset: Dataset, volume: int, place: int) -> None:
    shifted(dataset, max(0, volume - 2), place)


def turned(dataset: Dataset, volume: int, place: int) -> None:
    """About x, so that the corner moves along the slices."""
    c, s = np.cos(0.02 * volume), np.sin(0.02 * volume)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    dataset.ImagePositionPatient = [float(mm) for mm in turn @ [-6.0, -6.0, 3.5 * place]]
    dataset.ImageOrientationPatient = [*turn[:, 0].tolist(), *turn[:, 1].tolist()]


def with_positions_in_time(dataset: Dataset, volume: int, place: int) -> None:
    shifted(dataset, volume, place)
    dataset.TemporalPositionIdentifier = volume + 1


def without_numbers(dataset: Dataset, volume: int, place: int) -> None:
    shifted(dataset, volume, place)
    del dataset.InstanceNumber


MOVES: dict[str, Change] = {
    "shifted": shifted,
    "far": far,
    "shifted later": shifted_later,
    "turned": turned,
    "temporal": with_positions_in_time,
    "no numbers": without_numbers,
}


def live(datasets: list[Dataset]) -> list[Volume]:
    assembler = Assembler(Expected(), late_s=1.0)
    items = [item for dataset in datasets for item in assembler.add(Arrival(written(dataset), 0.0), 0.0)]
    return [item for item in (*items, *assembler.finish()) if isinstance(item, Volume)]


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_slices_are_followed(move: Change, tmp_path: Path) -> None:
    run = slices_of(N_VOLUMES, change=move)
    order = np.random.default_rng(2).permutation(len(run))
    for volumes in (list(open_series(put(tmp_path, [run[k] for k in order]))), live(run)):
        assert [volume.index for volume in volumes] == list(range(N_VOLUMES))
        for k, volume in enumerate(volumes):
            assert np.array_equal(volume.data, seen(planes(k)))
        first_mm, last_mm = (volume.affine[:3, 3] for volume in (volumes[0], volumes[-1]))
        assert not np.allclose(first_mm, last_mm)  # each is where its own header has it


def test_a_moving_run_is_no_single_image(tmp_path: Path) -> None:
    """Beside a reference of one volume, which is."""
    reference = [slice_of(7, place, place + 1) for place in range(N_SLICES)]
    for dataset in reference:
        dataset.SeriesInstanceUID = "2.25.9"
    series = open_series(put(tmp_path, [*reference, *slices_of(N_VOLUMES, change=shifted)]))
    assert series.n_volumes == N_VOLUMES
    assert np.array_equal(next(iter(series)).data, seen(planes(0)))


def test_a_moving_run_of_mosaics_is_no_single_image(tmp_path: Path) -> None:
    run = [mosaic(number) for number in range(1, N_VOLUMES + 1)]
    for k, dataset in enumerate(run):
        dataset.ImagePositionPatient = [0.0, 0.0, 0.2 * k]
    reference = mosaic(9)
    reference.SeriesInstanceUID = "2.25.9"
    series = open_series(put(tmp_path, [reference, *run]))
    assert series.n_volumes == N_VOLUMES
    assert np.array_equal(next(iter(series)).data, seen(planes(1)))
