"""The one rule of repetition time and slice times: header, JSON file, person and clock against each other."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from mindsight.errors import BadVolume
from mindsight.scanner import open_series, read_volume
from mindsight.scanner.timing import agreed_times, agreed_tr, pace_of, why_not_times
from support.par_files import Pair, write_pair

HEADER, BESIDE = "in the header", "in the JSON file beside"


def clock(step_s: float, n: int = 8, **odd_s: float) -> dict[int, float | None]:
    """Moments of n volumes; ``v3=0.4`` is volume 3 late by 0.4 s."""
    return {k: 1.7e9 + 0.37 + step_s * k + odd_s.get(f"v{k}", 0.0) for k in range(n)}


@pytest.mark.parametrize(
    ("moments_s", "step_s"),
    [
        (clock(2.1), 2.1),
        (clock(2.1, 2), 2.1),
        (clock(2.1, 5, v4=0.4), 2.1),  # the last one odd
        (clock(2.1, 6, v0=-1.3), 2.1),  # the first one
        (clock(2.1, 9, v4=0.9), 2.1),
        ({k: s for k, s in clock(2.1, 12).items() if k not in (3, 4, 7)}, 2.1),  # gaps
        ({**clock(2.1, 12), 5: None}, 2.1),
        ({k: s + 40.0 * (k > 5) for k, s in clock(2.1, 12).items() if s is not None}, 2.1),  # a pause
        ({k: (86_390.0 + 2.1 * k) % 86_400.0 for k in range(10)}, 2.1),  # midnight, where the date was blanked
        ({k: float(int(1000 + 1.5 * k)) for k in range(40)}, 1.5),  # whole seconds
        ({k: float(int(1000 + 0.72 * k)) for k in range(100)}, 0.72),
    ],
)
def test_the_pace_of_a_clock(moments_s: dict[int, float | None], step_s: float) -> None:
    pace = pace_of(moments_s)
    assert pace is not None
    assert pace.steady
    assert pace.step_s == pytest.approx(step_s, rel=0.01)
    assert pace.agrees(step_s)
    assert not pace.agrees(0.5 * step_s)


@pytest.mark.parametrize("moments_s", [{}, {0: 5.0}, dict.fromkeys(range(5), 7.0), {0: None, 1: None, 2: 3.0}])
def test_what_is_no_clock(moments_s: dict[int, float | None]) -> None:
    """GE states in every volume when the series began."""
    assert pace_of(moments_s) is None


def test_jitter_is_no_contradiction() -> None:
    rng = np.random.default_rng(1)
    for n in (3, 6, 30):
        jittered = {k: 1e9 + 2.0 * k + rng.uniform(-0.02, 0.02) for k in range(n)}
        assert agreed_tr({HEADER: 2.0}, pace_of(jittered)).tr_s == 2.0
    # a Trio's header says 1.97 s, and its clock 1.9776 s
    assert agreed_tr({HEADER: 1.97}, pace_of(clock(1.9776, 150))).tr_s == 1.97


@pytest.mark.parametrize(
    ("stated", "step_s", "tr_s"),
    [
        ({HEADER: 0.35}, 2.1, 2.1),  # the time of a slice
        ({HEADER: 2.0}, 2.5, 2.5),  # a pause after each volume
        ({HEADER: 2.0}, 10.0, 10.0),  # sparse sampling
        ({HEADER: 0.002}, 1.2, 1.2),  # the time of an excitation
        ({}, 1.2, 1.2),
        ({BESIDE: 2.0, HEADER: 1.0}, 2.0, 2.0),
        ({BESIDE: 1.0, HEADER: 2.0}, 2.0, 2.0),
    ],
)
def test_a_steady_clock_decides_and_it_is_reported(stated: dict[str, float], step_s: float, tr_s: float) -> None:
    agreed = agreed_tr(stated, pace_of(clock(step_s)))
    assert agreed.tr_s == tr_s
    assert len(agreed.notes) == 1
    assert f"{tr_s:g} s by the clock" in agreed.notes[0]
    for other_s in stated.values():
        assert other_s == tr_s or other_s < 0.05 or f"{other_s:g} s" in agreed.notes[0]


def test_what_agrees_is_not_spoken_of() -> None:
    assert agreed_tr({HEADER: 2.0}, pace_of(clock(2.0))) == agreed_tr({HEADER: 2.0}, None) == agreed_tr({}, None, 2.0)
    assert agreed_tr({BESIDE: 1.9999, HEADER: 2.0}, None).notes == ()


def unsteady(step_s: float) -> dict[int, float | None]:
    """The heart's."""
    beats = np.random.default_rng(3).uniform(0.7, 1.3, 30).cumsum()
    return {k: 1e9 + step_s * float(beat) for k, beat in enumerate(beats)}


@pytest.mark.parametrize(
    ("stated", "moments_s", "declared_s", "named"),
    [
        ({HEADER: 2.0}, clock(2.0), 1.5, ("1.5 s", "2 s")),
        ({HEADER: 1.5}, clock(2.0), 1.5, ("1.5 s", "2 s")),
        ({BESIDE: 2.0, HEADER: 2.5}, {}, None, ("2 s", "2.5 s")),
        ({HEADER: 1.0}, unsteady(2.0), None, ("1 s", "not steady")),
    ],
)
def test_what_nothing_decides_is_refused_by_both_names(
    stated: dict[str, float], moments_s: dict[int, float | None], declared_s: float | None, named: tuple[str, ...]
) -> None:
    with pytest.raises(BadVolume) as caught:
        agreed_tr(stated, pace_of(moments_s), declared_s)
    assert caught.value.code == "volume.tr_mismatch"
    assert all(words in str(caught.value) for words in named)


def test_a_person_may_declare_what_no_clock_states() -> None:
    assert agreed_tr({BESIDE: 2.0, HEADER: 2.5}, None, 2.5).tr_s == 2.5
    assert agreed_tr({HEADER: 1.0}, pace_of(unsteady(2.0)), 2.0).tr_s == 2.0
    assert agreed_tr({HEADER: 2.0}, pace_of(unsteady(2.0))).notes != ()
    for tr_s in (0.02, 60.0, 2000.0, float("nan")):
        with pytest.raises(BadVolume) as caught:
            agreed_tr({HEADER: 2.0}, None, tr_s)
        assert caught.value.code == "volume.tr"
    with pytest.raises(BadVolume) as caught:
        agreed_tr({HEADER: 90.0, BESIDE: 0.01}, None)
    assert caught.value.code == "volume.tr"


MULTIBAND = np.array([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
SINGLE = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.25])


@pytest.mark.parametrize(
    ("times_Z", "words"),
    [
        (SINGLE + 1.0, "beyond the repetition time"),
        (1000.0 * SINGLE, "milliseconds"),
        (np.zeros(6), "the same time"),
        (SINGLE[:5], "5 are stated for 6"),
        (np.array([0.0, 0.0, 0.0, 0.5, 1.0, 1.0]), "1 to 3 slices"),
        (SINGLE - 0.5, "not times"),
        (SINGLE * np.nan, "not times"),
    ],
)
def test_slice_times_that_cannot_be(times_Z: np.ndarray, words: str) -> None:
    assert words in (why_not_times(times_Z, 6, 1.5) or "")
    agreed = agreed_times([times_Z] * 3, 6, 1.5)
    assert agreed.times_Z is None
    assert len(agreed.notes) == 1
    assert words in agreed.notes[0]


@pytest.mark.parametrize("times_Z", [SINGLE, SINGLE[::-1], MULTIBAND, MULTIBAND + 0.0025 * (np.arange(6) > 2)])
def test_slice_times_that_can_be(times_Z: np.ndarray) -> None:
    """Slices that are excited together may be a tick apart."""
    assert why_not_times(times_Z, 6, 1.5) is None
    assert agreed_times([times_Z, None, times_Z], 6, 1.5).notes == ()


@pytest.mark.parametrize("odd", [0, 2, 3])
def test_the_slice_times_of_most_volumes_are_those_of_all(odd: int) -> None:
    stated = [SINGLE if k == odd else MULTIBAND + 0.0025 * (k % 2) for k in range(4)]
    agreed = agreed_times(stated, 6, 1.5)
    for times_Z in stated:
        np.testing.assert_allclose(agreed.of(times_Z), MULTIBAND, atol=0.003)
    assert ("the first volume states other times" in agreed.notes[0]) == (odd == 0)


def test_volumes_that_all_state_others_state_none() -> None:
    rng = np.random.default_rng(0)
    agreed = agreed_times([rng.permutation(SINGLE) for _ in range(5)], 6, 1.5)
    assert agreed.times_Z is None
    assert "different times" in agreed.notes[0]


def image(path: Path, zoom: float | None, unit: str = "unknown", *, n: int | None = 3) -> Path:
    shape = (4, 5, 6) if n is None else (4, 5, 6, n)
    made = nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    made.header.set_xyzt_units("mm", unit)
    if zoom is not None:
        made.header["pixdim"][4] = zoom
    made.to_filename(path)
    return path


def beside(path: Path, **fields: object) -> Path:
    path.with_name("bold.json").write_text(json.dumps(fields))
    return path


def test_a_zoom_of_one_without_a_unit_states_nothing(tmp_path: Path) -> None:
    path = image(tmp_path / "bold.nii", None)
    with pytest.raises(BadVolume) as caught:
        open_series(path)
    assert caught.value.code == "volume.tr"
    assert open_series(path, tr_s=1.7).tr_s == 1.7
    times = (2.0 / 6 * np.arange(6)).tolist()
    series = open_series(beside(path, RepetitionTime=2.0, SliceTiming=times))
    assert series.tr_s == 2.0
    np.testing.assert_allclose(next(iter(series)).slice_times_s, times)


@pytest.mark.parametrize(
    ("zoom", "unit", "tr_s", "is_said"),
    [
        (2.0, "sec", 2.0, False),
        (2000.0, "msec", 2.0, False),
        (2000.0, "sec", 2.0, True),  # a converter that mixed units
        (2.0, "msec", 2.0, True),
        (2.0, "usec", 2.0, True),
        (720.0, "sec", 0.72, True),
        (2.5, "unknown", 2.5, False),
        (2500.0, "unknown", 2.5, True),
        (1.0, "sec", 1.0, False),
    ],
)
def test_units_of_a_nifti(zoom: float, unit: str, tr_s: float, is_said: bool, tmp_path: Path) -> None:
    series = open_series(image(tmp_path / "bold.nii", zoom, unit))
    assert series.tr_s == tr_s
    assert any("unit is wrong" in note for note in series.notes) == is_said


@pytest.mark.parametrize(("zoom", "unit"), [(0.0, "sec"), (-2.0, "sec"), (97.0, "sec"), (0.02, "sec"), (2.0, "hz")])
def test_what_a_nifti_cannot_mean_is_asked_for(zoom: float, unit: str, tmp_path: Path) -> None:
    with pytest.raises(BadVolume) as caught:
        open_series(image(tmp_path / "bold.nii", zoom, unit))
    assert caught.value.code == "volume.tr"


def test_header_and_file_beside_against_each_other(tmp_path: Path) -> None:
    path = beside(image(tmp_path / "bold.nii", 2.5, "sec"), RepetitionTime=2.0)
    with pytest.raises(BadVolume, match=r"2 s in the JSON file beside and 2\.5 s in the header"):
        open_series(path)
    assert open_series(path, tr_s=2.5).tr_s == 2.5
    series = open_series(beside(image(path, 2.5), RepetitionTime=2.0))  # a number without a unit gives way
    assert series.tr_s == 2.0
    assert any("2.5 without a unit" in note for note in series.notes)
    series = open_series(beside(path, RepetitionTime=2500))
    assert series.tr_s == 2.5
    assert any("taken as milliseconds" in note for note in series.notes)
    assert read_volume(image(path, 3.0, "sec", n=None), run=1, index=0).tr_s == 2.5  # of one volume anything is written


@pytest.mark.parametrize("times", [[300.0 * k for k in range(6)], [0.0] * 6, [0.5 * k for k in range(6)], [0.1] * 5])
def test_slice_times_beside_that_do_not_fit_are_reported(times: list[float], tmp_path: Path) -> None:
    series = open_series(beside(image(tmp_path / "bold.nii", 2.0, "sec"), SliceTiming=times))
    assert all(volume.slice_times_s is None for volume in series)
    assert sum("slice times" in note for note in series.notes) == 1


def slice_of(volume: int, z: int, tr_ms: float, step_s: float) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{volume}.{z + 1}"
    dataset.SeriesInstanceUID, dataset.Modality = "1.2", "MR"
    dataset.InstanceNumber, dataset.TemporalPositionIdentifier = 1 + volume * 2 + z, volume + 1
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PixelData = np.full((4, 4), volume, np.uint16).tobytes()
    dataset.PixelSpacing, dataset.SliceThickness = [3.0, 3.0], 4.0
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0.0, 0.0, 4.0 * z]
    dataset.RepetitionTime, dataset.AcquisitionDate = tr_ms, "20260101"
    moment_s = 36000.12 + volume * step_s
    dataset.AcquisitionTime = f"10{int(moment_s % 3600 // 60):02d}{moment_s % 60:09.6f}"
    return dataset


def slices(folder: Path, tr_ms: float, step_s: float, n: int = 5) -> Path:
    folder.mkdir()
    for volume in range(n):
        for z in range(2):
            pydicom.dcmwrite(
                folder / f"{volume:02d}{z}.dcm", slice_of(volume, z, tr_ms, step_s), enforce_file_format=True
            )
    return folder


@pytest.mark.parametrize(
    ("tr_ms", "step_s", "tr_s"), [(2000.0, 2.5, 2.5), (350.0, 2.1, 2.1), (9.3, 1.4, 1.4), (2000.0, 2.0, 2.0)]
)
def test_a_folder_of_slices_has_the_pace_of_its_clock(tr_ms: float, step_s: float, tr_s: float, tmp_path: Path) -> None:
    folder = slices(tmp_path / "dcm", tr_ms, step_s)
    series = open_series(folder)
    assert series.tr_s == tr_s
    assert {volume.tr_s for volume in series} == {tr_s}
    assert any("by the clock" in note for note in series.notes) == (tr_ms != 1000.0 * step_s)
    with pytest.raises(BadVolume) as caught:
        open_series(folder, tr_s=1.1)
    assert caught.value.code == "volume.tr_mismatch"


def test_par_files_are_under_the_rule(tmp_path: Path) -> None:
    """The begin times of the dynamics, against the header and a person."""
    path = write_pair(tmp_path / "a.par", Pair(dynamics=(1, 2, 3, 4), interval_s=3.0))
    series = open_series(path)
    assert series.tr_s == 3.0
    assert any("3 s by the clock" in note for note in series.notes)
    with pytest.raises(BadVolume) as caught:
        open_series(path, tr_s=2.0)
    assert caught.value.code == "volume.tr_mismatch"
