"""Series of which some slices or volumes lack the scale that the others state: their values have another unit."""

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
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.volume import Volume
from support.dicom_files import enhanced, item, planes, put, seen, slices_of, written

Scale = Callable[[Dataset], None]


def philips(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept = "1.5", "0"
    dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5)


def without_private(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept = "1.5", "0"


def rescaled(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "0"


def plain(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"


def nothing(_dataset: Dataset) -> None:
    return


def run_with(usual: Scale, other: Scale, where: Sequence[tuple[int, int]]) -> list[Dataset]:
    return slices_of(5, change=lambda dataset, *at: (other if at in where else usual)(dataset))


def live(objects: Sequence[Dataset]) -> tuple[list[Volume], list[TransportWarning]]:
    assembler, items = Assembler(Expected(), 3.0), []
    for k, dataset in enumerate(objects):
        items += assembler.add(Arrival(written(dataset), 1000.0 + k, k + 1), float(k))
    items += assembler.finish()
    return [i for i in items if isinstance(i, Volume)], [i for i in items if isinstance(i, TransportWarning)]


@pytest.mark.parametrize(("usual", "other"), [(philips, without_private), (philips, nothing), (rescaled, nothing)])
@pytest.mark.parametrize("where", [[(2, 1)], [(2, place) for place in range(4)]])
def test_what_lacks_the_scale_of_the_others_is_bad(
    usual: Scale, other: Scale, where: list[tuple[int, int]], tmp_path: Path
) -> None:
    run = run_with(usual, other, where)
    with pytest.raises(BadVolume, match=r"file \d+ of 20 by name: expected .* as in the others") as caught:
        open_series(put(tmp_path, run))
    assert caught.value.code == "dicom.scale"
    errors: list[BadVolume] = []
    assert [volume.index for volume in open_series(tmp_path, on_bad=errors.append)] == [0, 1, 3, 4]
    assert "dicom.scale" in [error.code for error in errors]
    volumes, warnings = live(run)
    assert [volume.index for volume in volumes] == [0, 1, 3, 4]
    assert [warning.lost for warning in warnings if warning.code == "dicom.scale"] == [True]


@pytest.mark.parametrize(("usual", "other"), [(plain, nothing), (nothing, plain), (rescaled, plain)])
def test_scales_that_mean_the_same_or_vary_are_no_fault(usual: Scale, other: Scale, tmp_path: Path) -> None:
    run = run_with(usual, other, [(2, 1), (3, 0), (3, 1), (3, 2), (3, 3)])
    assert open_series(put(tmp_path, run)).n_volumes == 5
    volumes, warnings = live(run)
    assert len(volumes) == 5
    assert not warnings


def test_live_it_is_reported_that_the_first_volume_lacked_the_scale() -> None:
    volumes, warnings = live(run_with(philips, nothing, [(0, place) for place in range(4)]))
    assert [volume.index for volume in volumes] == list(range(5))
    assert ["before lack Philips' real scale" in warning.text for warning in warnings] == [True]
    assert warnings[0].lost


def test_frames_of_a_volume_that_lack_the_scale_of_the_others(tmp_path: Path) -> None:
    dataset = enhanced(3)
    for k, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        del groups.PixelValueTransformationSequence
        if k != 6:
            groups.PixelValueTransformationSequence = item(RescaleSlope=2.0, RescaleIntercept=0.0)
    errors: list[BadVolume] = []
    volumes = list(open_series(put(tmp_path, [dataset]), on_bad=errors.append))
    assert [error.code for error in errors] == ["dicom.scale"]
    assert [volume.index for volume in volumes] == [0, 2]
    assert np.array_equal(volumes[0].data, 2 * seen(planes(0)))
    volumes, warnings = live([dataset])
    assert [volume.index for volume in volumes] == [0, 2]
    assert [warning.lost for warning in warnings if warning.code == "dicom.scale"] == [True]
