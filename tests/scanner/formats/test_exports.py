"""What archives and anonymisers make of objects: other layouts of the file, moved, cut and lacking elements."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
)

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.formats.allowed import private_tags
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.dicom_series import record_volume
from mindsight.volume import Volume
from support.dicom_files import csa_of_mosaic, enhanced, item, mosaic, planes, put, raw, seen, slices_of, written

Write = Callable[[Dataset], bytes]


def mosaics(n: int = 3, **kinds: bool) -> list[Dataset]:
    return [mosaic(k, csa_of_mosaic(), **kinds) for k in range(1, n + 1)]


def read(folder: Path, contents: list[bytes], suffix: str = ".dcm") -> list[Volume]:
    for k, content in enumerate(contents):
        (folder / f"{k:03d}{suffix}").write_bytes(content)
    return list(open_series(folder))


def assert_are(volumes: list[Volume], first: int, n: int = 3) -> None:
    assert [volume.index for volume in volumes] == list(range(n))
    for k, volume in enumerate(volumes, first):
        assert np.array_equal(volume.data, seen(planes(k)))


def saved(dataset: Dataset, **options: bool) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=False, **options)
    return buffer.getvalue()


def without_preamble(dataset: Dataset) -> bytes:
    return written(dataset)[132:]


def without_meta(dataset: Dataset, *, implicit: bool) -> bytes:
    del dataset.file_meta
    return saved(dataset, implicit_vr=implicit, little_endian=True)


def without_syntax(dataset: Dataset) -> bytes:
    del dataset.file_meta.TransferSyntaxUID
    return bytes(128) + b"DICM" + saved(dataset, implicit_vr=False, little_endian=True)


def big_endian(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    return written(dataset)


def padded(dataset: Dataset) -> bytes:
    dataset.PixelData = dataset.PixelData + bytes(16)
    return written(dataset)


def with_something_behind(dataset: Dataset) -> bytes:
    dataset.add_new(0xFFFCFFFC, "OB", bytes(100))
    return written(dataset) + bytes(50)


def as_floats(dataset: Dataset) -> bytes:
    dataset.FloatPixelData = np.frombuffer(dataset.PixelData, "<i2").astype("<f4").tobytes()
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 32
    return written(dataset)


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize(
    "write",
    [
        without_preamble,
        lambda dataset: without_meta(dataset, implicit=True),
        lambda dataset: without_meta(dataset, implicit=False),
        without_syntax,
        big_endian,
        padded,
        with_something_behind,
        as_floats,
    ],
)
def test_files_as_archives_lay_them_out(write: Write, suffix: str, tmp_path: Path) -> None:
    assert_are(read(tmp_path, [write(dataset) for dataset in mosaics()], suffix), 1)


def test_several_layouts_in_one_series(tmp_path: Path) -> None:
    run = slices_of(3)
    for k, dataset in enumerate(run):
        if k % 3 == 1:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        elif k % 3 == 2:
            dataset.compress(RLELossless)
    assert_are(list(open_series(put(tmp_path, run))), 0)


def test_text_that_begins_like_nothing_is_no_dicom(tmp_path: Path) -> None:
    for text in (b"\x08\0 some notes" * 20, b"\x02\0\0\0\xff\xff\xff\xff" * 20, b"\x08\0\0\0"):
        with pytest.raises(BadVolume) as caught:
            read_dicom(text)
        assert caught.value.code == "dicom.not_dicom"


def test_a_compression_that_is_not_read_is_named() -> None:
    dataset = mosaics(1)[0]
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    del dataset.PixelData
    with pytest.raises(BadVolume, match="got JPEG Lossless; export uncompressed"):
        read_dicom(written(dataset))


@pytest.mark.parametrize("block", [0x11, 0x20, 0xE0, 0xFF])
def test_private_elements_in_any_block(block: int, tmp_path: Path) -> None:
    run = mosaics(open_elements=False)
    for dataset in run:
        csa = dataset[0x00291010].value
        del dataset[0x00290010], dataset[0x00291010]
        dataset.add_new(0x00290000 | block, "LO", "SIEMENS CSA HEADER")
        dataset.add_new(0x00290010 | block << 8, "OB", csa)
    assert_are(list(open_series(put(tmp_path, run))), 1)


def test_a_scale_of_philips_in_a_far_block() -> None:
    dataset = slices_of(1)[0]
    dataset.add_new(0x200500A0, "LO", "Philips MR Imaging DD 001")
    dataset.add_new(0x2005A00E, "FL", 4.0)
    assert read_dicom(written(dataset)).frames[0].slope == 0.25


def test_the_name_of_a_creator_elsewhere_reserves_nothing() -> None:
    dataset = mosaics(1)[0]
    dataset.PatientComments = "SIEMENS CSA HEADER"
    dataset.RequestAttributesSequence = item(PatientComments="Philips MR Imaging DD 001")
    assert private_tags(written(dataset)) - private_tags(b"") == {0x00190010, 0x0019100A, 0x00191029} - private_tags(
        b""
    )


@pytest.mark.parametrize("creator", [0x00290010, 0x00190010])
def test_elements_whose_creator_was_taken_out_are_in_the_usual_block(creator: int, tmp_path: Path) -> None:
    by_csa = creator == 0x00290010
    run = [mosaic(k, csa_of_mosaic() if by_csa else None, open_elements=not by_csa) for k in (1, 2, 3)]
    for dataset in run:
        del dataset[creator]
    assert_are(list(open_series(put(tmp_path, run))), 1)


def test_the_usual_block_is_not_read_where_another_has_reserved_it() -> None:
    dataset = slices_of(1)[0]
    dataset.add_new(0x20050010, "LO", "SOMEBODY ELSE")
    dataset.add_new(0x2005100E, "FL", 4.0)
    assert read_dicom(written(dataset)).frames[0].slope == 1.0


def test_slice_times_tell_how_many_slices_a_mosaic_has(tmp_path: Path) -> None:
    run = [mosaic(k) for k in (1, 2, 3)]
    for dataset in run:
        del dataset[0x0019100A]
    assert_are(list(open_series(put(tmp_path, run))), 1)


@pytest.mark.parametrize("words", [[], ["ORIGINAL", "PRIMARY"]])
@pytest.mark.parametrize("open_elements", [True, False])
def test_a_mosaic_that_lacks_the_usual_fields_is_recognised(
    words: list[str], open_elements: bool, tmp_path: Path
) -> None:
    run = mosaics(open_elements=open_elements)
    for dataset in run:
        dataset.ImageType = words
    assert_are(list(open_series(put(tmp_path, run))), 1)


def test_a_grid_of_united_imaging_is_refused_in_words() -> None:
    dataset = slices_of(1)[0]
    dataset.private_block(0x0065, "Image Private Header", create=True).add_new(0x50, "DS", "60")
    with pytest.raises(BadVolume, match="grid of slices"):
        read_dicom(written(dataset))


@pytest.mark.parametrize("sop_class", [MRImageStorage, "1.2.840.10008.5.1.4.1.1.4.4", None])
def test_many_frames_are_an_enhanced_object_whatever_its_class(sop_class: str | None, tmp_path: Path) -> None:
    dataset = enhanced(3)
    if sop_class is None:
        del dataset.SOPClassUID
    else:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    del dataset.NumberOfFrames
    assert_are(list(open_series(put(tmp_path, [dataset]))), 0)


def test_no_modality_is_that_of_the_class(tmp_path: Path) -> None:
    run = slices_of(3)
    for dataset in run:
        del dataset.Modality
    assert_are(list(open_series(put(tmp_path, run))), 0)


@pytest.mark.parametrize(("between", "thickness"), [(-3.5, 3.0), (0.0, 3.5), (None, 3.5), (None, -3.5)])
def test_the_distance_of_a_mosaics_slices_has_no_sign(between: float | None, thickness: float, tmp_path: Path) -> None:
    run = mosaics()
    for dataset in run:
        dataset.SliceThickness = thickness
        if between is None:
            del dataset.SpacingBetweenSlices
        else:
            dataset.SpacingBetweenSlices = between
    volumes = list(open_series(put(tmp_path, run)))
    assert_are(volumes, 1)
    assert volumes[0].affine[2, 2] == 3.5


@pytest.mark.parametrize("slope", ["0", "0.0", ""])
def test_a_slope_of_zero_is_none(slope: str) -> None:
    dataset = slices_of(1)[0]
    raw(dataset, "RescaleSlope", slope)
    assert read_dicom(written(dataset)).frames[0].slope == 1.0


def test_objects_in_folders_of_folders_are_one_series(tmp_path: Path) -> None:
    for k, dataset in enumerate(mosaics(4)):
        folder = tmp_path / "DICOM" / "PA000" / f"SE{k // 2:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"IM{k:03d}").write_bytes(written(dataset))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.dcm").write_bytes(written(mosaics(1)[0]))
    assert_are(list(open_series(tmp_path)), 1, 4)


def test_a_mosaic_without_any_distance_of_its_slices_is_refused_as_that() -> None:
    dataset = mosaics(1)[0]
    del dataset.SpacingBetweenSlices, dataset.SliceThickness
    with pytest.raises(BadVolume, match="distance between slices or their thickness"):
        record_volume(read_dicom(written(dataset)), 1, 0)
