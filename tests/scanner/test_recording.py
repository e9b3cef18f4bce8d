from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadRequest, BadVolume
from mindsight.events import RunEvent
from mindsight.scanner import open_run


def write_run(folder: Path, n_volumes: int = 4) -> Path:
    data = np.arange(3 * 4 * 5 * n_volumes, dtype=np.int16).reshape(3, 4, 5, n_volumes)
    image = nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1]))
    image.header.set_zooms((2, 2, 2, 1.5))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(folder / "bold.nii.gz")
    return folder


def test_haxby_is_a_run_of_121_volumes_at_two_and_a_half_seconds(shared: Path) -> None:
    run = open_run(shared / "data" / "haxby2001" / "run-003", run=3)
    assert (run.tr_s, run.n_volumes, run.shape) == (2.5, 121, (40, 20, 1))
    assert run.motion_T6 is not None
    assert run.motion_T6.shape == (121, 6)
    assert len(run.events) == 8
    assert all(event.duration_s == 22.5 and event.label for event in run.events)
    volumes = list(run.volumes())
    assert [volume.index for volume in volumes] == list(range(121))
    assert {volume.run for volume in volumes} == {3}
    truth = np.asanyarray(nib.load(shared / "data" / "haxby2001" / "run-003" / "bold.nii.gz").dataobj)
    np.testing.assert_array_equal(np.stack([volume.data for volume in volumes], axis=-1), truth)


def test_trio_reads_from_its_dicom_folder(shared: Path) -> None:
    run = open_run(shared / "data" / "trio_run155")
    assert (run.tr_s, run.n_volumes, run.shape, run.motion_T6) == (1.97, 155, (74, 74, 36), None)
    assert run.events[0] == RunEvent(29.55, 19.7, "NFBREG", None)


def test_events_are_optional_and_volumes_can_be_read_twice(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path))
    assert (run.events, run.n_volumes, run.tr_s) == ([], 4, 1.5)
    assert [v.data.tobytes() for v in run.volumes()] == [v.data.tobytes() for v in run.volumes()]


@pytest.mark.parametrize(
    ("motion", "code"),
    [("0 0 0 0 0 0\n" * 3, "motion.shape"), ("0 0 0\n" * 4, "motion.shape"), ("0 0 0 0 0 x\n" * 4, "motion.number")],
)
def test_motion_that_does_not_fit_is_a_bad_request(tmp_path: Path, motion: str, code: str) -> None:
    (write_run(tmp_path) / "motion.txt").write_text(motion)
    with pytest.raises(BadRequest) as caught:
        open_run(tmp_path)
    assert caught.value.code == code


@pytest.mark.parametrize("motion", ["0 0\n", "0 0 0 0 0 x\n" * 4, "\udcff"])
def test_what_is_wrong_with_motion_is_reported_without_the_files_name(tmp_path: Path, motion: str) -> None:
    (write_run(tmp_path) / "rp_Doe.txt").write_text(motion, errors="surrogateescape")
    with pytest.raises(BadRequest) as caught:
        open_run(tmp_path)
    assert "Doe" not in str(caught.value)


def test_a_folder_that_is_not_there_or_empty_is_a_bad_volume(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadVolume):
            open_run(folder)
