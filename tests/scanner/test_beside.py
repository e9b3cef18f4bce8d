"""What lies beside a run: tables of events where BIDS lets them lie, and motion parameters."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.scanner.beside import find_events, find_motion

TABLE = "onset\tduration\ttrial_type\n2\t1\tface\n6\t1\thouse\n"
OTHER = "onset\tduration\ttrial_type\n2\t1\tface\n"


def write(root: Path, *names: str, text: str = TABLE) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        (root / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


@pytest.mark.parametrize(
    ("bold", "table"),
    [
        ("sub-01/func/sub-01_task-view_run-01_echo-1_bold.nii.gz", "sub-01/func/sub-01_task-view_run-01_events.tsv"),
        ("sub-01/func/sub-01_task-view_run-1_part-mag_bold.nii", "sub-01/func/sub-01_task-view_run-01_events.tsv"),
        ("sub-01/func/sub-01_task-view_rec-moco_bold.nii.gz", "sub-01/func/sub-01_task-view_events.tsv.gz"),
        ("sub-01/ses-2/func/sub-01_ses-2_task-view_bold.nii.gz", "sub-01/ses-2/sub-01_ses-2_task-view_events.tsv"),
        ("sub-01/ses-2/func/sub-01_ses-2_task-view_run-3_bold.nii.gz", "sub-01/sub-01_task-view_events.tsv"),
        ("sub-01/func/sub-01_task-view_run-02_bold.nii.gz", "task-view_events.tsv"),
        ("sub-01/func/sub-01_task-view_run-02_bold.nii.gz", "task-view_run-2_events.tsv"),
        (
            "derivatives/fmriprep/sub-01/func/sub-01_task-view_space-T1w_desc-preproc_bold.nii.gz",
            "sub-01/func/sub-01_task-view_events.tsv",
        ),
        (
            "derivatives/mindsight/sub-01/func/sub-01_task-view_desc-preproc_bold.nii.gz",
            "rawdata/sub-01/func/sub-01_task-view_events.tsv",
        ),
        ("flat/sub-01_task-view_bold.nii.gz", "flat/sub-01_task-view_events.tsv"),
        ("run/bold.nii.gz", "run/events.tsv"),
        ("run/scan.PAR", "run/scan_events.tsv"),
        ("run/scan.PAR", "run/events.tsv"),
    ],
)
def test_an_images_table_is_found_where_bids_lets_it_lie(tmp_path: Path, bold: str, table: str) -> None:
    write(tmp_path, bold, text="")
    write(tmp_path, table)
    write(tmp_path, "sub-01/func/sub-01_task-other_events.tsv", "sub-02/sub-02_task-view_events.tsv", text=OTHER)
    found = find_events(tmp_path / bold)
    assert [event.label for event in found.events] == ["face", "house"]
    assert found.notes == ()


def test_the_nearest_table_and_the_most_exact_one_is_taken(tmp_path: Path) -> None:
    bold = "sub-01/func/sub-01_task-view_run-01_bold.nii.gz"
    write(tmp_path, bold, text="")
    write(tmp_path, "task-view_events.tsv", "sub-01/func/sub-01_task-view_events.tsv", text=OTHER)
    write(tmp_path, "sub-01/func/sub-01_task-view_run-01_events.tsv")
    assert len(find_events(tmp_path / bold).events) == 2


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([], "events.missing"),
        (["sub-01/func/sub-01_task-view_run-02_events.tsv"], "events.missing"),
        (["sub-01/func/sub-01_run-01_events.tsv", "sub-01/func/task-view_run-01_events.tsv"], "events.several"),
    ],
)
def test_that_no_table_is_taken_is_reported_without_a_name(tmp_path: Path, files: list[str], code: str) -> None:
    bold = "sub-01/func/sub-01_task-view_run-01_bold.nii.gz"
    write(tmp_path, bold, *files)
    found = find_events(tmp_path / bold)
    assert found.events == ()
    assert [note.code for note in found.notes] == [code]
    assert "sub-01" not in found.notes[0].text


@pytest.mark.parametrize(
    ("content", "code"), [(b"\xff\xfe\xff", "events.encoding"), (b"duration\n1\n", "events.columns")]
)
def test_a_table_that_cannot_be_used_refuses_no_volume(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "events.tsv").write_bytes(content)
    found = find_events(tmp_path)
    assert found.events == ()
    assert [note.code for note in found.notes] == [code]


@pytest.mark.parametrize("name", ["events.tsv", "events.tsv.gz", "sub-01_task-view_events.tsv"])
def test_a_folders_table(tmp_path: Path, name: str) -> None:
    write(tmp_path / "run", name)
    (tmp_path / "run" / "dcm").mkdir()
    assert len(find_events(tmp_path / "run").events) == 2
    assert len(find_events(tmp_path / "run" / "dcm").events) == 2


@pytest.mark.parametrize(
    ("images", "tables", "n_events"),
    [
        (["sub-01_task-x_run-2"], ["sub-01_task-x_run-1_events.tsv"], None),  # another run's
        (["sub-01_task-x_run-2"], ["sub-01_task-x_run-1_events.tsv", "sub-01_task-x_run-02_events.tsv"], 2),
        (["sub-01_task-x_run-2"], ["sub-01_task-y_events.tsv", "../task-x_events.tsv"], 2),
        (["sub-01_task-x_echo-1", "sub-01_task-x_echo-2"], ["../task-x_events.tsv"], 2),
        (["sub-01_task-x"], ["._sub-01_task-x_events.tsv", "sub-01_task-x_events.tsv"], 2),
        (["sub-01_task-x"], ["sub-01_task-x_run-1_events.tsv"], 2),  # the only one, of an image that names no run
    ],
)
def test_a_folders_table_is_of_the_image_in_it(
    tmp_path: Path, images: list[str], tables: list[str], n_events: int | None
) -> None:
    write(tmp_path / "sub-01", *(f"{image}_bold.nii.gz" for image in images), text="")
    write(tmp_path / "sub-01", tables[-1])
    write(tmp_path / "sub-01", *tables[:-1], text=OTHER)
    found = find_events(tmp_path / "sub-01")
    assert [note.code for note in found.notes] == ([] if n_events else ["events.missing"])
    assert len(found.events) == (n_events or 0)


def test_an_image_named_from_within_its_folder_inherits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "sub-01/func/sub-01_task-x_bold.nii.gz", text="")
    write(tmp_path, "task-x_events.tsv")
    monkeypatch.chdir(tmp_path / "sub-01" / "func")
    assert len(find_events(Path("sub-01_task-x_bold.nii.gz")).events) == 2
    assert len(find_events(Path()).events) == 2


@pytest.mark.parametrize(
    "name", ["motion.1D", "run_desc-confounds_regressors.tsv", "confounds.tsv", "x_timeseries.tsv"]
)
def test_confounds_of_other_programs_are_reported_as_unused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert [note.code for note in find_motion(tmp_path, 4).notes] == ["motion.unused"]


def test_motion_is_the_folders_or_bears_the_images_name(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "rp_bold.txt", np.full((3, 6), 2.0))
    np.savetxt(tmp_path / "func1_mcf.par", np.ones((3, 6)))
    of_folder = find_motion(tmp_path, 3)
    assert of_folder.order == "rotations"
    assert [note.code for note in of_folder.notes] == ["motion.unused"]
    for image, value, codes in (("func1.nii.gz", 1.0, []), ("func2.nii", None, ["motion.unused"])):
        of_image = find_motion(tmp_path / image, 3)
        assert (None if of_image.motion_T6 is None else of_image.motion_T6[0, 0]) == value
        assert [note.code for note in of_image.notes] == codes
    with pytest.raises(BadRequest, match="4 volumes"):
        find_motion(tmp_path, 4)


def test_a_table_of_confounds_that_is_not_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "sub-1_task-a_desc-confounds_timeseries.tsv").touch()
    ours = find_motion(tmp_path / "sub-1_task-a_space-T1w_desc-preproc_bold.nii.gz", 3)
    assert [note.code for note in ours.notes] == ["motion.unused"]
    assert find_motion(tmp_path / "sub-1_task-b_desc-preproc_bold.nii.gz", 3).notes == ()
