"""Bytes that are not what they claim to be: always BadVolume, never another exception, a warning or much memory."""

from __future__ import annotations

import contextlib
import functools
import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.errors import BadVolume
from mindsight.scanner import open_series, read_series, read_volume

REAL = {
    "mosaic": "trio_run155/dcm/001_000007_000001.dcm",
    "multiband": "siemens_ve11_multiband_mosaic/0001.dcm",
    "enhanced": "siemens_xa30_enhanced/0001.dcm",
    "ge": "ge_mr750/mr_0004/axial_epi_fmri_interleaved_i_to_s-00001.dcm",
    "philips": "philips_elition_slices8/2101_0001.dcm",
}
fuzzed = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@functools.cache
def real(path: Path) -> bytes:
    return path.read_bytes()


def nifti_bytes(shape: tuple[int, ...] = (5, 6, 7, 3), dtype: type = np.int16) -> bytes:
    image = nib.Nifti1Image(np.zeros(shape, dtype), np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.5
    return image.to_bytes()


def patched(offset: int, code: str, *values: float | bytes) -> bytes:
    data = bytearray(nifti_bytes())
    struct.pack_into(code, data, offset, *values)
    return bytes(data)


def mutated(data: st.DataObject, original: bytes, header_bytes: int) -> bytes:
    """The original with some bytes of its header changed, cut off somewhere, or both."""
    content = bytearray(original)
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, min(header_bytes, len(content)) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    return bytes(content)


@pytest.mark.parametrize("kind", REAL)
@fuzzed
@given(data=st.data())
def test_a_mutated_dicom_is_a_volume_or_a_bad_volume(
    kind: str, data: st.DataObject, shared: Path, tmp_path: Path
) -> None:
    original = real(shared / "data" / REAL[kind])
    header_bytes = data.draw(st.sampled_from([1500, 20_000, len(original)]))
    path = tmp_path / "mutated.dcm"
    path.write_bytes(mutated(data, original, header_bytes))
    with contextlib.suppress(BadVolume):
        read_volume(path, run=1, index=0)
    with contextlib.suppress(BadVolume):
        list(read_series(path))


@settings(fuzzed, max_examples=15)
@given(data=st.data())
def test_a_mutated_slice_among_good_ones(data: st.DataObject, shared: Path, tmp_path: Path) -> None:
    source = sorted((shared / "data" / "pyneal" / "ge_mr750_slices_54").iterdir())[:18]
    for k, path in enumerate(source):
        content = real(path)
        (tmp_path / f"{k}.dcm").write_bytes(mutated(data, content, len(content) - 8192) if k == 5 else content)
    with contextlib.suppress(BadVolume):
        list(read_series(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
@fuzzed
@given(data=st.data())
def test_a_mutated_nifti_is_a_series_or_a_bad_volume(packed: bool, data: st.DataObject, tmp_path: Path) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if packed and data.draw(st.booleans()) else bytes
    content = mutated(data, pack(nifti_bytes()), 348)
    path = tmp_path / "mutated.nii"
    path.write_bytes(gzip.compress(content) if packed and pack is bytes else content)
    with contextlib.suppress(BadVolume):
        list(read_series(path))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "nifti.truncated"),
        (nifti_bytes()[:300], "nifti.truncated"),
        (nifti_bytes()[:360], "nifti.truncated"),
        (nifti_bytes()[:-1000], "nifti.truncated"),
        (nifti_bytes() + b"\0", "nifti.trailing"),
        (patched(0, "<i", 347), "nifti.not_nifti"),
        (patched(344, "4s", b"ni1\0"), "nifti.not_nifti"),
        (patched(344, "4s", b"\0\0\0\0"), "nifti.not_nifti"),
        (patched(40, "<h", 5), "nifti.shape"),
        (patched(40, "<h", -1), "nifti.shape"),
        (patched(42, "<h", 0), "nifti.shape"),
        (patched(42, "<h", -5), "nifti.shape"),
        (patched(42, "<h", 513), "nifti.shape"),
        (patched(42, "<3h", 512, 512, 512), "nifti.shape"),
        (patched(48, "<h", 0), "nifti.shape"),
        (patched(48, "<h", 5), "nifti.truncated"),
        (patched(48, "<h", 2), "nifti.trailing"),
        (patched(70, "<h", 32), "nifti.dtype"),
        (patched(70, "<h", 128), "nifti.dtype"),
        (patched(70, "<h", 1536), "nifti.dtype"),
        (patched(108, "<f", 0), "nifti.offset"),
        (patched(108, "<f", 351), "nifti.offset"),
        (patched(108, "<f", 352.5), "nifti.offset"),
        (patched(108, "<f", 1e30), "nifti.offset"),
        (patched(108, "<f", float("nan")), "nifti.offset"),
        (patched(112, "<f", float("inf")), "nifti.slope"),
        (patched(116, "<f", float("inf")), "nifti.slope"),
        (patched(280, "<4f", 0, 0, 0, 0), "nifti.affine"),
        (patched(280, "<f", float("nan")), "nifti.affine"),
        (patched(280, "<f", 1e38), "nifti.affine"),
        (patched(280, "<f", 0.002), "nifti.affine"),
        (patched(252, "<2h", 1, 0)[:256] + struct.pack("<3f", 2, 2, 2) + nifti_bytes()[268:], "nifti.affine"),
        (patched(92, "<f", 0), "volume.tr"),
        (patched(92, "<f", float("nan")), "volume.tr"),
        (patched(92, "<f", 97), "volume.tr"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_each_lie_of_a_nifti_has_its_code(content: bytes, code: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "Doe_John.nii"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(BadVolume) as caught:
        list(read_series(path))
    assert caught.value.code == code
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:40], lambda b: b[:-8] + bytes(8), lambda b: b + b"x"]
)
def test_a_damaged_gzip_is_a_bad_volume(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(damage(gzip.compress(nifti_bytes())))
    with pytest.raises(BadVolume):
        list(read_series(path))


def test_a_gzip_bomb_is_never_inflated(tmp_path: Path) -> None:
    bomb = gzip.compress(nifti_bytes((5, 6, 7, 1)) + bytes(200 * 1024 * 1024), compresslevel=1)
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(BadVolume) as caught:
        list(read_series(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "nifti.trailing"
    assert peak < 5e6


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(128) + b"DICM", bytes(200), b"\x1f\x8b", b"%PDF-1.7" * 99])
def test_what_is_no_dicom_is_a_bad_volume(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "Doe_John.dcm"
    path.write_bytes(content)
    for source in (path, tmp_path):
        with pytest.raises(BadVolume) as caught:
            open_series(source)
        assert caught.value.code in ("dicom.not_dicom", "dicom.unreadable")
        assert "Doe" not in str(caught.value)


def replaced(shared: Path, kind: str, old: bytes, new: bytes) -> bytes:
    content = real(shared / "data" / REAL[kind])
    assert old in content
    return content.replace(old, new)


@pytest.mark.parametrize(
    ("kind", "old", "new", "code"),
    [
        ("mosaic", b"NumberOfImagesInMosaic", b"NumberOfImagesInMosaix", "dicom.no_csa"),
        ("mosaic", b"SliceNormalVector", b"SliceNormalVectox", "dicom.no_csa"),
        ("mosaic", b"SIEMENS CSA HEADER", b"SOMEBODY ELSES ONE", "dicom.no_csa"),
        ("mosaic", b"\x28\x00\x10\x00US\x02\x00\xbc\x01", b"\x28\x00\x10\x00US\x02\x00\xbd\x01", "dicom.truncated"),
        ("mosaic", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", "dicom.compressed"),
        ("mosaic", b"\x08\x00\x60\x00CS\x02\x00MR", b"\x08\x00\x60\x00CS\x02\x00CT", "dicom.not_mr"),
        ("mosaic", b"\x20\x00\x37\x00DS", b"\x20\x00\x38\x00DS", "dicom.no_geometry"),
        ("mosaic", b"\x18\x00\x80\x00DS", b"\x18\x00\x7f\x00DS", "volume.tr"),
        ("ge", b"MR", b"MR", "dicom.layout"),
    ],
)
def test_each_wrong_layout_has_its_code(
    kind: str, old: bytes, new: bytes, code: str, shared: Path, tmp_path: Path
) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(replaced(shared, kind, old, new))
    with pytest.raises(BadVolume) as caught:
        read_volume(path, run=1, index=0)
    assert caught.value.code == code


def test_a_file_that_is_not_there_or_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.nii").mkdir()
    for name in ("Doe.dcm", "Doe.nii", "Doe.nii.gz"):
        with pytest.raises(BadVolume) as caught:
            read_series(tmp_path / name)
        assert "Doe" not in str(caught.value)
    with pytest.raises(BadVolume):
        read_volume(tmp_path / "folder.nii", run=1, index=0)
