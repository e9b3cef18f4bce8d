"""Real DICOM objects in any order and mixed: the same runs as the reader of whole series gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.scanner import read_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.formats.dicom_header import DicomRecord, read_dicom
from mindsight.scanner.transports import Expected, Item, TransportWarning
from mindsight.volume import Volume
from support.taking import codes, ends, places, trio_file, volumes, warnings_in


def feed(assembler: Assembler, contents: list[DicomRecord | bytes], now_s: float = 0.0) -> list[Item]:
    return [item for k, content in enumerate(contents) for item in assembler.add(Arrival(content, 1000.0 + k), now_s)]


def everything(assembler: Assembler, contents: list[DicomRecord | bytes]) -> list[Item]:
    return [*feed(assembler, contents), *assembler.finish()]


def contents(folder: Path) -> list[bytes]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return [path.read_bytes() for path in files]


def assert_same(got: list[Volume], expected: list[Volume]) -> None:
    assert len(got) == len(expected)
    for volume, truth in zip(got, expected, strict=True):
        assert (volume.index, volume.tr_s, volume.acquired_s) == (truth.index, truth.tr_s, truth.acquired_s)
        assert volume.data.dtype == truth.data.dtype
        np.testing.assert_array_equal(volume.data, truth.data)
        np.testing.assert_array_equal(volume.affine, truth.affine)
        if truth.slice_times_s is not None:
            np.testing.assert_array_equal(volume.slice_times_s, truth.slice_times_s)


@pytest.mark.parametrize(
    "name",
    [
        "siemens_xa30_enhanced",
        "siemens_vd13_mosaic_order/ep2d_Asc_2",
        "siemens_vd13_mosaic_order/ep2d_Asc_HF_10",
        "siemens_ve11_multiband_mosaic",
        "pyneal/siemens_prisma_mosaic_3",
        "pyneal/ge_mr750_slices_54",
        "ge_mr750/mr_0004",
        "ge_mr750/mr_0005",
        "philips_elition_slices8",
    ],
)
def test_shuffled_objects_are_the_run(name: str, series: Callable[[str], Path]) -> None:
    objects = contents(series(name))
    shuffled = [objects[k] for k in np.random.default_rng(0).permutation(len(objects))]
    items = everything(Assembler(Expected(), late_s=1.0), shuffled)
    truth = list(read_series(series(name)))
    assert_same(volumes(items), truth)
    assert warnings_in(items) == []
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, len(truth))]
    assert all(volume.arrived_s is not None and volume.arrived_s >= 1000.0 for volume in volumes(items))


def test_slices_are_sent_as_soon_as_their_volume_is_whole(data: Path) -> None:
    objects = contents(data / "pyneal" / "ge_mr750_slices_54")
    assembler = Assembler(Expected(), late_s=1.0)
    assert feed(assembler, objects[:35]) == []
    assert places(feed(assembler, objects[35:36])) == [(1, 0), (1, 1)]
    assert feed(assembler, objects[36:53]) == []
    assert places(feed(assembler, objects[53:])) == [(1, 2)]


def test_two_runs_a_scout_and_an_anatomical_in_one_stream(data: Path) -> None:
    ge = contents(data / "pyneal" / "ge_mr750_slices_54")
    mosaics = [trio_file(data, k).read_bytes() for k in (1, 2, 3)]
    scout = contents(data / "siemens_xa30_enhanced")[:1]
    anatomical = contents(data / "ge_mr750" / "mr_0004")[:15]  # one volume of another series
    items = everything(Assembler(Expected(), 1.0, run=2), [*scout, *mosaics, *anatomical, *ge])
    assert places(items) == [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]
    assert codes(items) == ["series.ignored", "series.ignored"]
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(2, 3), (3, 3)]


def test_the_expected_shape_chooses_and_the_rest_gives_the_reason(data: Path) -> None:
    ge = contents(data / "pyneal" / "ge_mr750_slices_54")
    mosaics = [trio_file(data, k).read_bytes() for k in (1, 2, 3)]
    mixed = [*mosaics[:2], *ge[:20], mosaics[2], *ge[20:]]
    items = everything(Assembler(Expected(shape=(64, 64, 18), tr_s=1.0), 1.0), mixed)
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert {volume.shape for volume in volumes(items)} == {(64, 64, 18)}
    assert codes(items) == ["series.ignored"]
    assert "74×74×36" in warnings_in(items)[0].text


@pytest.mark.parametrize(("old", "new"), [(b"\\M\\", b"\\P\\"), (b"ND\\NORM", b"ND\\MOCO")])
def test_phase_and_the_scanners_own_correction_are_distinguished(old: bytes, new: bytes, data: Path) -> None:
    mosaics = [trio_file(data, k).read_bytes() for k in (1, 2, 3)]
    assert all(old in mosaic for mosaic in mosaics)
    others = [mosaic.replace(old, new) for mosaic in mosaics]
    mixed = [one for pair in zip(others, mosaics, strict=True) for one in pair]
    items = everything(Assembler(Expected(), 1.0), mixed)
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items) == ["series.ignored"]
    if b"MOCO" in new:
        items = everything(Assembler(Expected(motion_corrected=True), 1.0), mixed)
        assert places(items) == [(1, 0), (1, 1), (1, 2)]


def phase(record: DicomRecord) -> DicomRecord:
    return replace(record, image_type=(*record.image_type[:2], "P", *record.image_type[3:]), component="PHASE")


def corrected(record: DicomRecord) -> DicomRecord:
    return replace(record, image_type=(*record.image_type, "MOCO"), series="corrected")


@pytest.mark.parametrize("double", [phase, corrected])
@pytest.mark.parametrize(
    ("name", "n_files"),
    [
        ("siemens_xa30_enhanced", 4),
        ("siemens_ve11_multiband_mosaic", 2),
        ("siemens_vd13_mosaic_order/ep2d_Asc_2", 4),
        ("pyneal/ge_mr750_slices_54", 54),
        ("philips_elition_slices8", 126),  # magnitude and phase are one series there
    ],
)
def test_doubles_of_every_format_are_distinguished(
    name: str, n_files: int, double: Callable[[DicomRecord], DicomRecord], series: Callable[[str], Path]
) -> None:
    raw = [read_dicom(content) for content in contents(series(name))[:n_files]]
    doubles = [replace(double(record), pixels=bytes(len(record.pixels))) for record in raw]
    mixed = [one for pair in zip(doubles, raw, strict=True) for one in pair]
    alone, items = everything(Assembler(Expected(), 1.0), raw), everything(Assembler(Expected(), 1.0), mixed)
    assert len(volumes(alone)) >= 2
    assert_same(volumes(items), volumes(alone))
    assert codes(items) == ["series.ignored"]
    if double is corrected:
        items = everything(Assembler(Expected(motion_corrected=True), 1.0), mixed)
        assert [int(volume.data.max()) for volume in volumes(items)] == [0] * len(volumes(alone))
        assert codes(items) == ["series.ignored"]


def test_a_missing_slice_costs_its_volume_and_no_other(data: Path) -> None:
    objects = contents(data / "pyneal" / "ge_mr750_slices_54")
    del objects[20]
    items = everything(Assembler(Expected(), 1.0), objects)
    assert places(items) == [(1, 0), (1, 2)]
    assert [(t.code, t.index, t.missing) for t in warnings_in(items)] == [
        ("volume.incomplete", 1, False),
        ("volume.missing", 1, True),
    ]


def test_doubled_slices_are_reported_once_per_volume(data: Path) -> None:
    objects = contents(data / "pyneal" / "ge_mr750_slices_54")
    items = everything(Assembler(Expected(), 1.0), [*objects[:30], *objects[:30], *objects[30:]])
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items) == ["slice.doubled", "slice.doubled"]


def test_slices_that_never_make_a_volume_are_bounded(series: Callable[[str], Path]) -> None:
    records = [read_dicom(content) for content in contents(series("philips"))[::2]]
    size = len(records[0].pixels)
    assembler = Assembler(Expected(), 1.0, max_held_bytes=10 * size)
    items = feed(assembler, records)
    assert "volume.incomplete" in codes(items)
    assert assembler._slices.held_bytes <= 10 * size


def test_what_does_not_parse_is_reported_and_affects_nothing_else(data: Path) -> None:
    mosaics = [trio_file(data, k).read_bytes() for k in (1, 2, 3)]
    items = everything(Assembler(Expected(), 1.0), [mosaics[0], mosaics[1][:-10], b"", b"%PDF-1.7" * 99, *mosaics[1:]])
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items) == ["dicom.truncated", "dicom.not_dicom", "dicom.not_dicom"]


def test_a_warning_of_the_transport_is_reported_in_order() -> None:
    warning = TransportWarning("watch.folder", "gone")
    assert Assembler(Expected(), 1.0).add(warning, 0.0) == [warning]


def test_a_run_in_one_object_is_sent_at_once(data: Path) -> None:
    records = [read_dicom(content) for content in contents(data / "siemens_xa30_enhanced")[:3]]
    frames = [replace(frame, temporal_position=k) for k, record in enumerate(records, 1) for frame in record.frames]
    whole = replace(records[0], frames=tuple(frames), pixels=b"".join(record.pixels for record in records))
    items = everything(Assembler(Expected(), 1.0), [whole])
    assert_same(volumes(items), list(read_series(data / "siemens_xa30_enhanced"))[:3])
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 3)]
