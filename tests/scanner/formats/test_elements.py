"""The quick way to read an object's elements finds what the parser for every layout finds, or leaves it to that."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from mindsight.errors import BadVolume
from mindsight.scanner.formats import dicom_header
from mindsight.scanner.formats.allowed import private_tags
from mindsight.scanner.formats.dicom_record import DicomRecord
from mindsight.scanner.formats.elements import usual_elements

REAL = {
    "mosaic of unknown VRs": "trio_run155/dcm/001_000007_000001.dcm",
    "mosaic": "siemens_ve11_multiband_mosaic/0001.dcm",
    "enhanced": "siemens_xa30_enhanced/0001.dcm",
    "ge": "ge_mr750/mr_0004/axial_epi_fmri_interleaved_i_to_s-00001.dcm",
    "philips": "philips_elition_slices8/2101_0001.dcm",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """pydicom warns of the real files' headers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def real(path: Path) -> bytes:
    return path.read_bytes()


def is_usual(content: bytes) -> bool:
    tags = dicom_header._tags(False) | private_tags(content)
    return usual_elements(content, tags, dicom_header._CODEC) is not None


def outcome(content: bytes, header_only: bool) -> DicomRecord | tuple[str, str]:
    try:
        return dicom_header.read_dicom(content, header_only=header_only)
    except BadVolume as error:
        return error.code, str(error)


def assert_same_both_ways(content: bytes) -> None:
    for header_only in (True, False):
        quick = outcome(content, header_only)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dicom_header, "usual_elements", lambda *_: None)
            assert quick == outcome(content, header_only)


def rewritten(content: bytes, change: Callable[[Dataset], None]) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    change(dataset)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", REAL)
def test_real_objects_are_read_quickly_and_alike(kind: str, shared: Path) -> None:
    content = real(shared / "data" / REAL[kind])
    assert is_usual(content)
    assert isinstance(outcome(content, header_only=False), DicomRecord)
    assert_same_both_ways(content)


def defined_lengths(dataset: Dataset) -> None:
    for element in dataset.iterall():
        element.is_undefined_length = False
        for item in element.value if element.VR == "SQ" else ():
            item.is_undefined_length_sequence_item = False


def numbers_of_unknown_vr(dataset: Dataset) -> None:
    for tag, value in (
        (0x20010010, b"Philips Imaging DD 001"),
        (0x20011018, (33).to_bytes(4, "little")),
        (0x20050010, b"Philips MR Imaging DD 001 "),
        (0x2005100E, b"\0\0\x80\x3f"),
        (0x00430010, b"GEMS_PARM_01"),
        (0x0043102F, b"1 "),
    ):
        dataset[Tag(tag)] = pydicom.dataelem.RawDataElement(Tag(tag), "UN", len(value), value, 0, False, True)


def letters(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Manufacturer = "SIEMENS Erlängen"
    dataset.PatientName = "Ünbekannt"


def public_of_unknown_vr(dataset: Dataset) -> None:
    dataset[Tag(0x00080070)] = pydicom.dataelem.RawDataElement(Tag(0x00080070), "UN", 8, b"SIEMENS ", 0, False, True)


@pytest.mark.parametrize(
    ("change", "usual"),
    [(defined_lengths, True), (numbers_of_unknown_vr, True), (letters, False), (public_of_unknown_vr, False)],
)
@pytest.mark.parametrize("kind", REAL)
def test_written_in_other_ways(kind: str, change: Callable[[Dataset], None], usual: bool, shared: Path) -> None:
    content = rewritten(real(shared / "data" / REAL[kind]), change)
    assert is_usual(content) is usual
    assert isinstance(outcome(content, header_only=True), DicomRecord)
    assert_same_both_ways(content)


def packed(dataset: Dataset) -> None:
    dataset.compress(RLELossless, encoding_plugin="pydicom")


def implicit(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


@pytest.mark.parametrize("change", [packed, implicit])
def test_other_syntaxes_are_left_to_the_parser(change: Callable[[Dataset], None], shared: Path) -> None:
    content = rewritten(real(shared / "data" / REAL["ge"]), change)
    assert not is_usual(content)
    assert isinstance(outcome(content, header_only=True), DicomRecord)
    assert_same_both_ways(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mosaic of unknown VRs", "enhanced", "philips"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_objects_come_out_alike(kind: str, data: st.DataObject, shared: Path) -> None:
    content = bytearray(real(shared / "data" / REAL[kind]))
    within = data.draw(st.sampled_from([1500, 20_000, len(content)]))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(within, len(content)) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    assert_same_both_ways(bytes(content))
