"""Runs that are in a folder more than once, whole runs in one object, RLE: made from real files by changing headers."""

from __future__ import annotations

import contextlib
import shutil
import struct
import tracemalloc
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, RLELossless

from mindsight.errors import BadVolume
from mindsight.scanner import open_series, read_volume
from mindsight.scanner.formats.dicom_header import DicomRecord, read_dicom
from mindsight.scanner.formats.image_type import Kind, kind_of
from mindsight.scanner.formats.rle import decode_frame
from mindsight.scanner.formats.slices import stacked_times_s

TRIO = "trio_run155/dcm/001_000007_{:06d}.dcm"
XA = "siemens_xa30_enhanced/{:04d}.dcm"
GE = "pyneal/ge_mr750_slices_54"


@pytest.fixture(autouse=True)
def quiet() -> object:
    """pydicom warns of the real files' headers, when it writes them too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def series_of(
    source: Path, pattern: str, target: Path, count: int, change: Callable[[Dataset], None], prefix: str
) -> None:
    for k in range(1, count + 1):
        dataset = pydicom.dcmread(source / pattern.format(k))
        change(dataset)
        dataset.save_as(target / f"{prefix}{k}.dcm")


def plain(dataset: Dataset) -> None:
    pass


def phase(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "2.25.1"
    dataset.ImageType = [*dataset.ImageType[:2], "P", *dataset.ImageType[3:]]


def moco(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "2.25.2"
    dataset.ImageType = ["DERIVED", "PRIMARY", "M", "ND", "MOCO", "MOSAIC"]


def other(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "2.25.3"


def xa_phase(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "2.25.1"
    dataset.ComplexImageComponent = "PHASE"


def xa_moco(dataset: Dataset) -> None:
    """As XA says it: not in ImageType, but in the private ImageType4MF of a frame."""
    dataset.SeriesInstanceUID = "2.25.2"
    frame = dataset.PerFrameFunctionalGroupsSequence[0][0x0021, 0x11FE][0]
    frame[0x0021, 0x1175].value = ["ORIGINAL", "PRIMARY", "M", "MB", "ND", "MOCO"]


@pytest.mark.parametrize(
    ("pattern", "doubles"), [(TRIO, {"moco": moco, "phase": phase}), (XA, {"moco": xa_moco, "phase": xa_phase})]
)
@pytest.mark.parametrize("which", [["phase"], ["moco"], ["moco", "phase"]])
def test_raw_magnitudes_are_chosen_and_it_is_noted(
    pattern: str, doubles: dict[str, Callable[[Dataset], None]], which: list[str], data: Path, tmp_path: Path
) -> None:
    series_of(data, pattern, tmp_path, 3, plain, "b")
    alone = list(open_series(tmp_path))
    for name in which:
        series_of(data, pattern, tmp_path, 3, doubles[name], "a" if name == "moco" else "c")
    series = open_series(tmp_path)
    assert series.n_volumes == 3
    for one, expected in zip(series, alone, strict=True):
        assert np.array_equal(one.data, expected.data)
        assert one.index == expected.index
    (note,) = series.notes
    assert note.startswith("chose 3 magnitude images; left out ")
    for name in which:
        assert {"moco": "3 motion-corrected magnitude images", "phase": "3 phase images"}[name] in note


def test_without_a_raw_series_the_corrected_one_is_the_run(data: Path, tmp_path: Path) -> None:
    series_of(data, TRIO, tmp_path, 2, moco, "a")
    series_of(data, TRIO, tmp_path, 2, phase, "b")
    assert open_series(tmp_path).n_volumes == 2
    assert open_series(tmp_path).notes == ("chose 2 motion-corrected magnitude images; left out 2 phase images",)


def test_phases_alone_are_no_run_and_two_raw_series_are_two(data: Path, tmp_path: Path) -> None:
    series_of(data, TRIO, tmp_path, 2, phase, "a")
    with pytest.raises(BadVolume) as caught:
        open_series(tmp_path)
    assert caught.value.code == "series.no_magnitude"
    series_of(data, TRIO, tmp_path, 2, plain, "b")
    series_of(data, TRIO, tmp_path, 2, other, "c")
    with pytest.raises(BadVolume) as caught:
        open_series(tmp_path)
    assert caught.value.code == "series.several"


@pytest.mark.slow
def test_philips_puts_both_into_one_series(data: Path, tmp_path: Path) -> None:
    source = data / "philips_elition_slices8"
    alone = open_series(source)
    for k, path in enumerate(sorted(source.iterdir())):
        if k % 8 > 1:  # numbered through time first: of each slice the first two of eight
            continue
        shutil.copy(path, tmp_path / f"m{path.name}")
        dataset = pydicom.dcmread(path)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(tmp_path / f"p{path.name}")
    both = open_series(tmp_path)
    assert (both.n_volumes, both.shape) == (2, alone.shape)
    assert "chose 126 magnitude images; left out 126 phase images" in both.notes
    assert np.array_equal(next(iter(both)).data, next(iter(alone)).data)


def record(data: Path, **fields: object) -> DicomRecord:
    return replace(read_dicom((data / TRIO.format(1)).read_bytes(), header_only=True), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "component", "kind"),
    [
        (("ORIGINAL", "PRIMARY", "M", "ND"), "", Kind()),
        (("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"), "", Kind()),
        (("ORIGINAL", "PRIMARY", "EPI", "NONE"), "MAGNITUDE", Kind()),
        (("ORIGINAL", "PRIMARY", "EPI", "NONE"), "PHASE", Kind("phase")),
        (("ORIGINAL", "PRIMARY", "p", "nd"), "", Kind("phase")),
        (("ORIGINAL", "PRIMARY", "R"), "", Kind("real")),
        (("ORIGINAL", "PRIMARY", "I"), "", Kind("imaginary")),
        (("ORIGINAL", "PRIMARY", "P", "MOCO"), "", Kind("phase", corrected=True)),
        (("ORIGINAL", "PRIMARY"), "MIXED", Kind("mixed")),
        ((), "", Kind()),
    ],
)
def test_kinds(words: tuple[str, ...], component: str, kind: Kind, data: Path) -> None:
    assert kind_of(record(data, image_type=words, component=component)) == kind


def joined(data: Path, count: int, numbers: list[int]) -> Dataset:
    """A run of ``count`` volumes as one enhanced object, its frames shuffled, its volumes numbered so."""
    parts = [pydicom.dcmread(data / XA.format(k)) for k in range(1, count + 1)]
    whole, frames = deepcopy(parts[0]), []
    for part, number in zip(parts, numbers, strict=True):
        size = part.Rows * part.Columns * 2
        for k, groups in enumerate(part.PerFrameFunctionalGroupsSequence):
            groups.FrameContentSequence[0].TemporalPositionIndex = number
            frames.append((groups, part.PixelData[k * size : (k + 1) * size]))
    order = np.random.default_rng(0).permutation(len(frames))
    whole.PerFrameFunctionalGroupsSequence = Sequence([frames[k][0] for k in order])
    whole.NumberOfFrames = len(frames)
    whole.PixelData = b"".join(frames[k][1] for k in order)
    return whole


def test_a_whole_run_in_one_object_is_split_by_its_temporal_positions(data: Path, tmp_path: Path) -> None:
    joined(data, 3, [1, 2, 4]).save_as(tmp_path / "run.dcm")
    for source in (tmp_path, tmp_path / "run.dcm"):
        series = open_series(source, run=2)
        assert (series.n_volumes, series.shape, series.tr_s) == (4, (64, 64, 33), 1.0)
        volumes = list(series)
        assert [(volume.run, volume.index) for volume in volumes] == [(2, 0), (2, 1), (2, 3)]
        for k, volume in enumerate(volumes, 1):
            truth = read_volume(data / XA.format(k), run=2, index=0)
            assert np.array_equal(volume.data, truth.data)
            assert np.array_equal(volume.affine, truth.affine)
            assert volume.acquired_s == truth.acquired_s
            assert volume.slice_times_s is not None
            assert np.array_equal(volume.slice_times_s, truth.slice_times_s)  # type: ignore[arg-type]
    with pytest.raises(BadVolume) as caught:
        read_volume(tmp_path / "run.dcm", run=1, index=0)
    assert caught.value.code == "dicom.layout"


def test_objects_of_several_volumes_follow_each_other(data: Path, tmp_path: Path) -> None:
    for k in (1, 2):
        part = joined(data, 2, [1, 2])
        part.InstanceNumber = k
        part.save_as(tmp_path / f"{k}.dcm")
    series = open_series(tmp_path)
    assert series.n_volumes == 4
    assert [volume.index for volume in series] == [0, 1, 2, 3]


def test_frames_of_phase_in_an_object_are_left(data: Path, tmp_path: Path) -> None:
    """As Philips' enhanced objects have them: component and position in time are each frame's own."""
    both = joined(data, 2, [1, 2])
    both.ComplexImageComponent = "MIXED"
    for groups in both.PerFrameFunctionalGroupsSequence:
        content, item = groups.FrameContentSequence[0], Dataset()
        item.ComplexImageComponent = "PHASE" if content.TemporalPositionIndex == 2 else "MAGNITUDE"
        groups.MRImageFrameTypeSequence = Sequence([item])
        content.TemporalPositionIndex = 1
    both.save_as(tmp_path / "run.dcm")
    (volume,) = open_series(tmp_path)
    assert np.array_equal(volume.data, read_volume(data / XA.format(1), run=1, index=0).data)


@pytest.mark.parametrize("pattern", [TRIO, XA])
def test_rle_needs_no_decoder(pattern: str, data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(data / pattern.format(1))
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    dataset.save_as(tmp_path / "rle.dcm")
    assert len(dataset.PixelData) < len(pydicom.dcmread(data / pattern.format(1)).PixelData)
    truth = read_volume(data / pattern.format(1), run=1, index=0)
    volume = read_volume(tmp_path / "rle.dcm", run=1, index=0)
    assert np.array_equal(volume.data, truth.data)
    assert np.array_equal(volume.affine, truth.affine)
    assert open_series(tmp_path).n_volumes == 1


def test_what_has_no_decoder_reports_it(data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(data / TRIO.format(1))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "j2k.dcm")
    with pytest.raises(BadVolume, match="export uncompressed") as caught:
        read_volume(tmp_path / "j2k.dcm", run=1, index=0)
    assert caught.value.code == "dicom.compressed"


def test_an_rle_bomb_is_never_unpacked(data: Path, tmp_path: Path) -> None:
    """15 segments, all of them the same megabyte of runs: 128 MB in pydicom's own decoder, per segment."""
    runs = b"\x81\x00" * 500_000
    bomb = struct.pack("<16L", 2, *[64] * 15) + runs
    dataset = pydicom.dcmread(data / TRIO.format(1))
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = pydicom.encaps.encapsulate([bomb])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "bomb.dcm")
    tracemalloc.start()
    with contextlib.suppress(BadVolume):
        read_volume(tmp_path / "bomb.dcm", run=1, index=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    dataset.Rows = dataset.Columns = 16_384
    dataset.save_as(tmp_path / "bomb.dcm")
    with pytest.raises(BadVolume) as caught:
        read_volume(tmp_path / "bomb.dcm", run=1, index=0)
    assert caught.value.code == "dicom.truncated"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 300), st.sampled_from([1, 2, 4]))
def test_any_bytes_as_rle_are_pixels_or_a_bad_volume(encoded: bytes, n_pixels: int, width: int) -> None:
    head = struct.pack("<16L", width, *range(64, 64 + 15 * 20, 20))
    for content in (encoded, head + encoded):
        with contextlib.suppress(BadVolume):
            assert len(decode_frame(content, n_pixels, width)) == n_pixels * width


def ge_slices(data: Path, volume: int) -> list[DicomRecord]:
    """The slices of one volume, by position."""
    records = [read_dicom(path.read_bytes(), header_only=True) for path in sorted((data / GE).iterdir())]
    members = [r for r in records if ((r.instance_number or 0) - 1) // 18 == volume]
    return sorted(members, key=lambda r: r.instance_number or 0)


def test_ge_slices_have_the_times_of_their_timer_in_either_unit(data: Path) -> None:
    """An interleaved run: 1, 3, 5... then 2, 4, 6..., 1/18 s each."""
    records = ge_slices(data, 1)
    times = stacked_times_s(records, 1.0)
    assert times is not None
    expected = np.argsort([*range(0, 18, 2), *range(1, 18, 2)]) / 18
    np.testing.assert_allclose(times, expected, atol=1e-3)
    old = [replace(r, slice_clock=(r.slice_clock or 0) * 1e4) for r in records]
    np.testing.assert_allclose(stacked_times_s(old, 1.0), times, atol=1e-6)  # type: ignore[arg-type]
    shuffled = [records[k] for k in np.random.default_rng(1).permutation(18)]
    np.testing.assert_array_equal(stacked_times_s(shuffled, 1.0), times)  # type: ignore[arg-type]


def test_a_timer_that_cannot_be_right_is_not_believed(data: Path) -> None:
    assert stacked_times_s(ge_slices(data, 0), 1.0) is None  # several slices of the first volume say 0
    records = ge_slices(data, 1)
    assert stacked_times_s(records, 0.00005) is None  # longer than the TR, in every unit
    assert stacked_times_s([*records[:-1], replace(records[-1], slice_clock=None)], 1.0) is None
    volumes = list(open_series(data / GE))
    assert all(np.array_equal(volume.slice_times_s, volumes[1].slice_times_s) for volume in volumes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("multiband", "believed"), [(None, True), ("1\\0", True), ("4\\4\\19", False)])
def test_trigger_times_are_believed_but_not_of_multiband(
    multiband: str | None, believed: bool, data: Path, tmp_path: Path
) -> None:
    for k, path in enumerate(sorted((data / "ge_mr750" / "mr_0005").iterdir())[:15]):
        dataset = pydicom.dcmread(path)
        dataset.TriggerTime = k * 300
        if multiband is not None:
            dataset.private_block(0x0043, "GEMS_PARM_01").add_new(0xB6, "LO", multiband.split("\\"))
        dataset.save_as(tmp_path / path.name)
    series = open_series(tmp_path)
    times = next(iter(series)).slice_times_s
    if believed:
        assert times is not None
        np.testing.assert_allclose(times, np.arange(15) * 0.3)
    else:
        assert times is None
        assert series.notes == ("slice times are unknown: the files do not state them",)


def test_ge_pauses_after_each_volume_are_part_of_the_tr(data: Path) -> None:
    path = sorted((data / "ge_mr750" / "mr_0005").iterdir())[0]
    content = path.read_bytes()
    dataset = pydicom.dcmread(path)
    dataset[0x0043, 0x107C].value = 0.055
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer)
    assert read_dicom(content, header_only=True).tr_s == 5.0
    assert read_dicom(buffer.getvalue(), header_only=True).tr_s == pytest.approx(5.055)
