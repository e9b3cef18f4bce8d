"""Identity in a file, its name and its folder's name: none of it comes out, in a volume, its bytes or an error."""

from __future__ import annotations

import dataclasses
import io
import logging
import traceback
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from mindsight.errors import BadVolume
from mindsight.scanner import read_series, read_volume
from mindsight.scanner.formats import dicom_header
from mindsight.volume_codec import encode_volume
from support.seeded_dicom import SEED, TEXT_KEYWORDS, UID_SEED, seeded

KINDS = {
    "mosaic": "trio_run155/dcm/001_000007_000001.dcm",
    "enhanced": "siemens_xa30_enhanced/0001.dcm",
}


def write(dataset: Dataset, path: Path) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def assert_clean(*outputs: bytes) -> None:
    for output in outputs:
        for seed in (SEED, UID_SEED, "Doe"):
            assert seed.encode() not in output
            assert seed.encode("utf-16-le") not in output


@pytest.mark.parametrize("kind", KINDS)
def test_no_identifier_comes_out(
    kind: str, shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "20260101.Doe^John.12345"
    folder.mkdir()
    content = write(seeded(shared / "data" / KINDS[kind], kind), folder / "Doe_John_0001.dcm")
    assert content.count(SEED.encode()) >= 60  # the seeds are there to be found

    by_file = read_volume(folder / "Doe_John_0001.dcm", run=1, index=0)
    (by_folder,) = read_series(folder)
    record = dicom_header.read_dicom(content)
    described = repr([getattr(record, field.name) for field in dataclasses.fields(record) if field.name != "pixels"])
    output = capfd.readouterr()
    assert_clean(
        encode_volume(by_file),
        encode_volume(by_folder),
        repr(by_file).encode(),
        described.encode(),
        record.pixels,
        (caplog.text + output.out + output.err).encode(),
    )
    assert by_file.data.max() > 100


@pytest.mark.parametrize("kind", KINDS)
def test_no_identifier_is_in_an_error_or_its_traceback(kind: str, shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Doe^John"
    folder.mkdir()
    content = write(seeded(shared / "data" / KINDS[kind], kind), folder / "Doe.dcm")
    for cut in (200, 3000, len(content) // 2, len(content) - 10):
        (folder / "Doe.dcm").write_bytes(content[:cut])
        with pytest.raises(BadVolume) as caught:
            list(read_series(folder))
        error = caught.value
        shown = "".join(traceback.format_exception_only(error)) + repr(error.details)
        chained = repr(error.__cause__) + repr(error.__context__)
        assert_clean(shown.encode(), chained.encode())


@pytest.mark.parametrize("element", [b"\x20\x00\x37\x00DS", b"\x28\x00\x30\x00DS"])
def test_a_value_of_the_wrong_kind_is_not_quoted(element: bytes, shared: Path, tmp_path: Path) -> None:
    """pydicom's own exceptions quote the value that they could not convert."""
    content = (shared / "data" / KINDS["mosaic"]).read_bytes()
    start = content.index(element) + len(element)
    n_bytes = int.from_bytes(content[start : start + 2], "little")
    path = tmp_path / "one.dcm"
    path.write_bytes(content[: start + 2] + b"ZQXJ".ljust(n_bytes) + content[start + 2 + n_bytes :])
    with pytest.raises(BadVolume) as caught:
        read_volume(path, run=1, index=0)
    assert caught.value.code == "dicom.no_geometry"
    assert_clean(str(caught.value).encode(), repr(caught.value.__context__).encode())


def test_a_value_of_the_wrong_kind_is_no_value(shared: Path) -> None:
    """Where the field may be lacking, the image is none the worse."""
    content = (shared / "data" / KINDS["mosaic"]).read_bytes()
    assert b"\x20\x00\x13\x00IS\x02\x001 " in content
    content = content.replace(b"\x20\x00\x13\x00IS\x02\x001 ", b"\x20\x00\x13\x00IS\x04\x00ZQXJ")
    record = dicom_header.read_dicom(content)
    assert record.instance_number is None
    assert_clean(repr(dataclasses.replace(record, pixels=b"")).encode())


def test_the_allow_list_names_real_elements_and_no_direct_identifier() -> None:
    for keyword in dicom_header.ALLOWED:
        tag = pydicom.datadict.tag_for_keyword(keyword)
        assert tag is not None
        assert keyword_for_tag(tag) == keyword
        assert tag >> 16 != 0x0010  # the patient's group
    assert not dicom_header.ALLOWED & set(TEXT_KEYWORDS) - {"SeriesInstanceUID"}  # which becomes a digest


def test_no_other_file_opens_a_data_set() -> None:
    scanner = Path(dicom_header.__file__).parents[1]
    files = [path for path in scanner.rglob("*.py") if path.parent.name != "transports"]  # which receive objects unread
    users = {path.name for path in files if "pydicom" in path.read_text() or "nicom" in path.read_text()}
    assert users == {"dicom_header.py"}
