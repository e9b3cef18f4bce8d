"""What lies beside a run in its folder: maps, means, references, localisers. The run is taken, the rest is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.image_type import kind_of
from mindsight.scanner.transports import Expected, TransportWarning
from support.slice_files import SLICES, save, slice_dataset, truth


def run(n_volumes: int, **given: object) -> list:
    return [slice_dataset(v, s, instance=v * SLICES + s + 1, **given) for v in range(n_volumes) for s in range(SLICES)]


def noted(folder: Path, n_volumes: int, seed: int = 0) -> str:
    series = open_series(folder)
    np.testing.assert_array_equal([one.data for one in series], [truth(k, seed) for k in range(n_volumes)])
    return "; ".join(series.notes)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("T_MAP", "statistical map"),
        ("TMAPS", "statistical map"),
        ("GLM", "statistical map"),
        ("TTEST", "statistical map"),
        ("MEAN", "mean"),
        ("ADC", "map"),
        ("TRACEW", "map"),
        ("T2_STAR MAP", "map"),
        ("MPR", "reformat"),
        ("PROJECTION IMAGE", "reformat"),
        ("LOCALIZER", "localiser"),
        ("SBREF", "reference"),
        ("SCREEN SAVE", "screenshot"),
        ("PHYSIO", "recording of physiology"),
    ],
)
@pytest.mark.parametrize("first", ["DERIVED", "ORIGINAL"])
def test_words_for_what_is_no_acquisition(words: str, name: str, first: str, tmp_path: Path) -> None:
    other = slice_dataset(0, 0, instance=1, image_type=(first, "PRIMARY", "EPI", words))
    save(tmp_path, [other])
    kind = kind_of(read_dicom(next(tmp_path.iterdir()).read_bytes()))
    assert kind.computed == name
    assert str(kind) == name


@pytest.mark.parametrize(
    "words",
    [
        ("ORIGINAL", "PRIMARY", "M", "MB", "TE1", "ND", "NORM", "FM", "FIL"),
        ("DERIVED", "PRIMARY", "M", "ND", "FILTERED", "DIS2D"),
        ("DERIVED", "PRIMARY", "M_FFE", "M", "FFE"),
        ("ORIGINAL", "PRIMARY", "FMRI", "NONE"),
        ("DERIVED", "PRIMARY", "EPI", "NONE"),
        ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
    ],
)
def test_words_of_real_runs_are_none_of_those(words: tuple[str, ...], tmp_path: Path) -> None:
    save(tmp_path, run(2, image_type=words))
    assert kind_of(read_dicom(next(tmp_path.iterdir()).read_bytes())).computed == ""
    assert "left" not in noted(tmp_path, 2)


@pytest.mark.parametrize("words", ["T_MAP", "MEAN", "MPR"])
def test_maps_beside_a_run_are_left_and_named(words: str, tmp_path: Path) -> None:
    save(tmp_path, run(3), "run")
    save(tmp_path, run(2, seed=9, series="1.2.9", image_type=("DERIVED", "PRIMARY", "EPI", words)), "a-map")
    note = noted(tmp_path, 3)
    name = {"T_MAP": "statistical map", "MEAN": "mean", "MPR": "reformat"}[words]
    assert f"chose 12 magnitude images; left out 8 {name} images" in note


def test_a_reference_of_one_volume_and_a_localiser_are_left(tmp_path: Path) -> None:
    save(tmp_path, run(1, seed=5, series="1.2.4"), "a-reference")
    save(tmp_path, run(1, seed=6, series="1.2.5")[:3], "a-scout")
    save(tmp_path, run(3), "run")
    assert "chose 12 magnitude images; left out 7 magnitude images" in noted(tmp_path, 3)


def test_the_only_series_there_is_is_taken_whatever_it_states(tmp_path: Path) -> None:
    save(tmp_path, run(3, image_type=("DERIVED", "PRIMARY", "EPI", "MEAN")))
    noted(tmp_path, 3)


def test_a_derived_series_beside_the_acquired_one_is_left_and_alone_it_is_the_run(tmp_path: Path) -> None:
    save(tmp_path, run(3, seed=2, series="1.2.7", image_type=("DERIVED", "PRIMARY", "EPI", "FILTERED")), "derived")
    assert "left" not in noted(tmp_path, 3, seed=2)
    save(tmp_path, run(3), "run")
    assert "left out 12 derived magnitude images" in noted(tmp_path, 3)


def test_two_runs_without_a_series_uid_are_distinguished_by_their_grid_or_refused(tmp_path: Path) -> None:
    save(tmp_path, run(3, series=""), "run")
    save(tmp_path, run(2, seed=3, series="", image_type=("DERIVED", "PRIMARY", "EPI", "T_MAP")), "map")
    noted(tmp_path, 3)
    save(tmp_path, run(2, seed=4, series=""), "again")
    with pytest.raises(BadVolume):
        open_series(tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        "1.2.840.10008.1.3.10",  # DICOMDIR
        "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
        "1.2.840.10008.5.1.4.1.1.7.4",
        "1.2.840.10008.5.1.4.1.1.66",  # raw data
        "1.2.840.10008.5.1.4.1.1.88.22",  # report
        "1.3.12.2.1107.5.9.1",  # Siemens' own, as PhysioLog
    ],
)
def test_objects_that_are_no_images_are_left(kind: str, tmp_path: Path) -> None:
    save(tmp_path, run(3), "run")
    for k, prefix in enumerate(("a", "z")):
        other = slice_dataset(0, 0, instance=1, series=f"1.2.8{k}")
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = kind
        if k:
            del other.Rows, other.PixelData
        save(tmp_path, [other], prefix)
    assert "left out 2 objects that are not MR images" in noted(tmp_path, 3)
    assembler = Assembler(Expected(), 3.0)
    items = [one for path in sorted(tmp_path.iterdir()) for one in assembler.add(Arrival(path.read_bytes(), 0.0), 0.0)]
    foreign = [one for one in items if isinstance(one, TransportWarning) and one.code == "dicom.not_mr"]
    assert [one.lost for one in foreign] == [False, False]


def test_another_modality_beside_the_run_is_left(tmp_path: Path) -> None:
    save(tmp_path, run(3), "run")
    other = slice_dataset(0, 0, instance=1, series="1.2.8")
    other.Modality = "OT"
    save(tmp_path, [other], "a")
    assert "left out 1 objects that are not MR images" in noted(tmp_path, 3)
