"""Private headers are read where they are needed, in every layout; an unreadable one is named: never a traceback."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.formats.csa import read_csa
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.mosaic import mosaic_note, mosaic_volume
from mindsight.scanner.transports import Expected, TransportWarning
from mindsight.volume import Volume
from support.dicom_files import (
    N_SLICES,
    TIMES_MS,
    csa_header,
    csa_of_mosaic,
    mosaic,
    planes,
    put,
    seen,
    slices_of,
    written,
)

TIMES_S = np.array(TIMES_MS) / 1000.0
UNREADABLE = {
    "blanked": bytes(868),
    "text": b"removed by the archive ",
    "cut off in the middle": csa_of_mosaic()[:400],
    "absurd count of tags": b"SV10\4\3\2\1" + struct.pack("<2I", 0x7FFFFFFF, 77) + bytes(400),
    "absurd count of items": csa_of_mosaic().replace(struct.pack("<2i", 6, 77), struct.pack("<2i", 1 << 30, 77)),
    "no mark": csa_of_mosaic().replace(struct.pack("<i", 77), bytes(4)),
    "of the series": csa_header({"MrPhoenixProtocol": ["### ASCCONV BEGIN ###"], "PatientName": ["ZQXJ"]}),
    "older layout cut off": csa_of_mosaic(old=True)[:300],
}


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("open_elements", [True, False])
def test_both_layouts_of_the_csa_header(old: bool, open_elements: bool, tmp_path: Path) -> None:
    run = [mosaic(k, csa_of_mosaic(old=old), open_elements=open_elements) for k in (1, 2, 3)]
    series = open_series(put(tmp_path, run))
    assert (series.n_volumes, series.tr_s) == (3, 2.0)
    for k, volume in enumerate(series, 1):
        assert np.array_equal(volume.data, seen(planes(k)))
        assert np.array_equal(volume.slice_times_s, TIMES_S)  # type: ignore[arg-type]


def test_tiles_against_the_normal_are_turned_in_the_older_layout_too() -> None:
    turned = mosaic_volume(read_dicom(written(mosaic(1, csa_of_mosaic(old=True, normal_z=-1.0)))), 2.0, 1, 0)
    assert np.array_equal(turned.data, seen(planes(1)[::-1]))
    assert np.array_equal(turned.slice_times_s, TIMES_S[::-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_unreadable_csa_header_leaves_the_open_elements(what: str, tmp_path: Path) -> None:
    series = open_series(put(tmp_path, [mosaic(1, UNREADABLE[what])]))
    (volume,) = series
    assert "check which end of the head comes first" in series.notes[0]
    assert np.array_equal(volume.data, seen(planes(1)))
    assert np.array_equal(volume.slice_times_s, TIMES_S)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_unreadable_csa_header_is_named(what: str, tmp_path: Path) -> None:
    with pytest.raises(BadVolume, match="the CSA header cannot be read") as caught:
        open_series(put(tmp_path, [mosaic(1, UNREADABLE[what], open_elements=False)]))
    assert caught.value.code == "dicom.no_csa"
    assert "send it again" not in str(caught.value)


def test_the_direction_of_slices_is_reported_as_assumed() -> None:
    unreadable, none = (read_dicom(written(mosaic(1, csa))) for csa in (UNREADABLE["blanked"], None))
    assert "cannot be read" in (mosaic_note(unreadable) or "")
    assert "no CSA header" in (mosaic_note(none) or "")
    assert mosaic_note(read_dicom(written(mosaic(1, csa_of_mosaic())))) is None


def test_a_readable_header_without_the_normal_is_not_guessed_at() -> None:
    """Fields were taken out: which end comes first is not known."""
    csa = csa_header({"NumberOfImagesInMosaic": [str(N_SLICES)]})
    with pytest.raises(BadVolume, match="slice count and normal in the CSA header") as caught:
        mosaic_volume(read_dicom(written(mosaic(1, csa))), 2.0, 1, 0)
    assert caught.value.code == "dicom.no_csa"


@pytest.mark.parametrize("vr", ["OB", "UN", "LO", "OW", "UT"])
@pytest.mark.parametrize("block", [0x10, 0x13])
def test_the_header_in_another_block_and_of_another_vr(vr: str, block: int) -> None:
    dataset = mosaic(1, open_elements=False)
    dataset.add_new((0x0029, block), "LO", "SIEMENS CSA HEADER ")
    csa = csa_of_mosaic()
    dataset.add_new((0x0029, block << 8 | 0x10), "OB", csa + b"\0" * (len(csa) % 2))
    content = written(dataset)
    if vr in ("UN", "OW", "UT"):  # those with a length of four bytes
        tag = struct.pack("<2H", 0x0029, block << 8 | 0x10)
        assert tag + b"OB" in content
        content = content.replace(tag + b"OB", tag + vr.encode())
    assert np.array_equal(mosaic_volume(read_dicom(content), 2.0, 1, 0).data, seen(planes(1)))


def test_a_creator_that_is_there_twice() -> None:
    dataset = mosaic(1, open_elements=False)
    for block, content in ((0x10, None), (0x11, bytes(200)), (0x12, csa_of_mosaic())):
        dataset.add_new((0x0029, block), "LO", "SIEMENS CSA HEADER")
        if content is not None:
            dataset.add_new((0x0029, block << 8 | 0x10), "OB", content + b"\0" * (len(content) % 2))
    assert np.array_equal(mosaic_volume(read_dicom(written(dataset)), 2.0, 1, 0).data, seen(planes(1)))


def test_live_the_direction_is_reported_once_and_nothing_is_lost() -> None:
    assembler = Assembler(Expected(), late_s=1.0)
    run = [written(mosaic(k, UNREADABLE["blanked"])) for k in (1, 2, 3)]
    items = [item for content in run for item in assembler.add(Arrival(content, 0.0), 0.0)]
    items += assembler.finish()
    assert [item.index for item in items if isinstance(item, Volume)] == [0, 1, 2]
    reported = [item for item in items if isinstance(item, TransportWarning)]
    assert [(warning.code, warning.lost) for warning in reported if warning.code == "mosaic.direction"] == [
        ("mosaic.direction", False)
    ]


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_is_no_mosaic_needs_no_csa_header(what: str, tmp_path: Path) -> None:
    run = slices_of(2)
    for dataset in run:
        content = UNREADABLE[what]
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", content + b"\0" * (len(content) % 2))
    for k, volume in enumerate(open_series(put(tmp_path, run))):
        assert np.array_equal(volume.data, seen(planes(k)))


def test_private_elements_that_hold_remains(tmp_path: Path) -> None:
    """Of every vendor, where a number should be: none of them refuses an image."""
    run = slices_of(2)
    for dataset in run:
        for group, creator, element in (
            (0x2001, "Philips Imaging DD 001", 0x18),
            (0x2005, "Philips MR Imaging DD 001", 0x0E),
            (0x0021, "GEMS_RELA_01", 0x4F),
            (0x0043, "GEMS_PARM_01", 0x2F),
            (0x0043, "GEMS_PARM_01", 0x7C),
            (0x0021, "SIEMENS MR SDI 02", 0xFE),
        ):
            dataset.private_block(group, creator, create=True).add_new(element, "LO", "ZQXJ")
    for k, volume in enumerate(open_series(put(tmp_path, run))):
        assert np.array_equal(volume.data, seen(planes(k)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_as_a_csa_header_are_fields_or_none(data: st.DataObject) -> None:
    content = bytearray(csa_of_mosaic(old=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(0, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = read_csa(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert found is None or found.slices is None or found.slices >= 1
    assert read_csa(data.draw(st.binary(max_size=200))) is None
