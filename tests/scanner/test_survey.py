"""What the day before shows: ``mindsight inspect`` on folders as exports leave them, and on single files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from typer.testing import CliRunner

from mindsight.cli import app
from mindsight.errors import BadVolume
from mindsight.scanner.survey import Surveyed, survey
from support.enhanced_files import SHAPE, TR_S, enhanced


def write(folder: Path, numbers: range, series: str = "1.2.3", change: Callable[[Dataset], None] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        dataset = enhanced(number, series)
        dataset.Manufacturer = "SIEMENS of Doe"
        if change is not None:
            change(dataset)
        dataset.save_as(folder / f"Doe_{series}_{number}.dcm", enforce_file_format=True)


def phase(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "P", "FMRI"]


def localiser(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "M"]


def moco(dataset: Dataset) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY", "M", "MOCO"]


def another(dataset: Dataset) -> None:
    dataset.Modality = "CT"


def nifti(path: Path, n: int) -> None:
    image = nib.Nifti1Image(np.zeros((5, 6, 7, n), np.int16), np.diag([3, 3, 3, 1]))
    image.header["pixdim"][4] = 2.0
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def test_an_export_with_everything_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^John"
    write(folder / "a", range(1, 6), "1.2.1")
    write(folder / "a", range(1, 6), "1.2.2", phase)
    write(folder / "a", range(1, 4), "1.2.3", localiser)
    write(folder / "b" / "c", range(1, 2), "1.2.4")
    write(folder / "b", range(1, 6), "1.2.5", moco)
    write(folder / "b", range(1, 3), "1.2.6", another)
    (folder / "a" / "broken.dcm").write_bytes((folder / "a" / "Doe_1.2.1_1.dcm").read_bytes()[:700])
    (folder / "notes.txt").write_text("Doe")
    found = survey(folder)
    assert [one.left_out for one in found.runs] == [""]
    (run,) = found.runs
    assert (run.n_files, run.n_volumes, run.shape, run.voxel_mm) == (5, 5, SHAPE, (3.0, 3.0, 3.5))
    assert (run.vendor, run.format) == ("Siemens", "DICOM, enhanced")
    assert (run.tr_header_s, run.tr_s) == (TR_S, TR_S)
    assert run.tr_clock_s == pytest.approx(TR_S)
    left = {one.holds: one.left_out for one in found.series if one.left_out}
    assert "phase" in left["phase"]
    assert "localiser" in left["localiser"]
    assert "single volume" in left["magnitude"]
    assert "moco=1" in left["motion-corrected magnitude"]
    assert left["no MR"] == "it is no MR"
    assert len(found.unreadable) == 1
    assert found.n_other == 1
    assert "Doe" not in repr(found)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_it_and_sets_its_exit_code(as_json: bool, tmp_path: Path) -> None:
    write(tmp_path / "Doe", range(1, 4))
    (tmp_path / "Doe" / "events.tsv").write_text("onset\tduration\ttrial_type\n1\t1\tface\n")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "Doe"), *(["--json"] if as_json else [])])
    assert result.exit_code == 0
    assert "Doe" not in result.output
    if as_json:
        facts = json.loads(result.output)
        assert facts["can_decode"] is True
        assert facts["missing"] == []
        assert facts["n_events"] == 1
        assert [one["n_volumes"] for one in facts["series"]] == [3]
    else:
        assert "Runs" in result.output
        assert "Left out" not in result.output
        assert "Decoding can start: 1 run." in result.output


def test_what_cannot_be_decoded_is_exit_code_1(tmp_path: Path) -> None:
    write(tmp_path / "scout", range(1, 2))
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "scout")])
    assert result.exit_code == 1
    assert "single volume" in result.output
    assert "Decoding cannot start." in result.output
    (tmp_path / "empty").mkdir()
    assert CliRunner().invoke(app, ["inspect", str(tmp_path / "empty")]).exit_code == 1
    with pytest.raises(BadVolume):
        survey(tmp_path / "nothing")


def test_headers_and_clock_that_contradict_each_other_are_both_shown(tmp_path: Path) -> None:
    def slice_tr(dataset: Dataset) -> None:
        timing = dataset.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence[0]
        timing.RepetitionTime = 375.0

    write(tmp_path / "run", range(1, 7), change=slice_tr)
    (run,) = survey(tmp_path / "run").runs
    assert (run.tr_header_s, run.tr_s) == (0.375, TR_S)
    assert run.tr_clock_s == pytest.approx(TR_S)
    assert any("clock" in note for note in run.notes)


def test_the_clock_of_several_echoes_is_that_of_one(tmp_path: Path) -> None:
    def echoes(dataset: Dataset) -> None:
        number = int(dataset.InstanceNumber)
        volume, echo = (number - 1) // 2 + 1, (number - 1) % 2
        time, clock = Dataset(), enhanced(volume).PerFrameFunctionalGroupsSequence
        time.EffectiveEchoTime = (12.0, 30.0)[echo]
        dataset.SharedFunctionalGroupsSequence[0].MREchoSequence = Sequence([time])
        dataset.PerFrameFunctionalGroupsSequence = clock

    write(tmp_path / "run", range(1, 9), change=echoes)
    (run,) = survey(tmp_path / "run").runs
    assert (run.n_files, run.n_volumes, run.echo_times_ms) == (8, 4, (12.0, 30.0))
    assert run.tr_clock_s == pytest.approx(TR_S)


def test_single_files_and_several_runs_in_one_folder(tmp_path: Path) -> None:
    for name in ("run-1", "run-2"):
        nifti(tmp_path / f"sub-Doe_{name}_bold.nii", 4)
    found = survey(tmp_path)
    assert [(one.format, one.n_volumes, one.tr_s) for one in found.runs] == [("NIfTI", 4, 2.0)] * 2
    alone = survey(tmp_path / "sub-Doe_run-1_bold.nii")
    assert len(alone.series) == 1
    (tmp_path / "cut.nii").write_bytes((tmp_path / "sub-Doe_run-1_bold.nii").read_bytes()[:100])
    (broken,) = survey(tmp_path / "cut.nii").series
    assert broken.left_out
    assert "Doe" not in repr((found, alone, broken))


@pytest.mark.parametrize(
    ("name", "n", "vendor", "at_once"),
    [
        ("siemens_xa30_enhanced", 20, "Siemens", 3),
        ("pyneal/ge_mr750_slices_54", 3, "GE", 1),
    ],
)
def test_real_exports(name: str, n: int, vendor: str, at_once: int | None, shared: Path) -> None:
    found = survey(shared / "data" / name)
    (run,) = found.runs
    assert (run.n_volumes, run.vendor, run.slices_at_once, run.missing) == (n, vendor, at_once, ())
    assert found.unreadable == ()
    assert isinstance(run, Surveyed)
