"""Live volumes that state no repetition time: the clock of the first two gives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.transports import Item
from support.dicom_files import csa_of_mosaic, enhanced, mosaic, planes, seen, slices_of, written
from support.taking import codes, places, volumes, warnings_in


def live(objects: Sequence[Dataset], expected: Expected | None = None) -> list[Item]:
    assembler, items = Assembler(expected or Expected(), 3.0), list[Item]()
    for k, dataset in enumerate(objects):
        items += assembler.add(Arrival(written(dataset), 1000.0 + k, k + 1), float(k))
    return [*items, *assembler.finish()]


def untimed(kind: str, tr: str | None = None) -> list[Dataset]:
    if kind == "mosaic":
        run = [mosaic(k, csa_of_mosaic()) for k in range(1, 5)]
    elif kind == "slices":
        run = slices_of(4)
    else:
        run = [enhanced(4)]
        del run[0].SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence
        return run
    for dataset in run:
        del dataset.RepetitionTime
        if tr is not None:
            dataset.RepetitionTime = tr
    return run


@pytest.mark.parametrize(
    ("kind", "tr"), [("mosaic", None), ("mosaic", "0"), ("slices", None), ("slices", "0"), ("enhanced", None)]
)
def test_the_clock_gives_the_repetition_time(kind: str, tr: str | None) -> None:
    items = live(untimed(kind, tr))
    assert places(items) == [(1, k) for k in range(4)]
    assert {volume.tr_s for volume in volumes(items)} == {2.0}
    assert [warning.text for warning in warnings_in(items) if warning.code == "volume.tr"] == [
        "TR 2 s by the clock of the volumes; nothing else states one, check it"
    ]
    for k, volume in enumerate(volumes(items), kind == "mosaic"):
        assert np.array_equal(volume.data, seen(planes(k)))


def test_what_was_declared_needs_no_clock() -> None:
    run = untimed("mosaic")
    for dataset in run:
        del dataset.AcquisitionTime
    items = live(run, Expected(tr_s=2.0))
    assert len(volumes(items)) == 4
    assert not warnings_in(items)


def test_without_a_clock_each_volume_is_refused() -> None:
    run = untimed("mosaic")
    for dataset in run:
        del dataset.AcquisitionTime
    items = live(run)
    assert [warning.lost for warning in warnings_in(items) if warning.code == "volume.tr"] == [True] * 4
    assert not volumes(items)


def test_a_single_volume_is_reported_at_the_end() -> None:
    items = live(untimed("mosaic")[:1])
    assert codes(items) == ["volume.tr"]
    assert warnings_in(items)[0].lost


def test_a_held_volume_that_is_bad_takes_no_other_along() -> None:
    run = untimed("mosaic")
    run[0].PixelSpacing = [0, 0]
    items = live(run)
    assert places(items) == [(1, k) for k in (1, 2, 3)]
    assert [warning.code for warning in warnings_in(items) if warning.lost] == ["volume.affine"]
