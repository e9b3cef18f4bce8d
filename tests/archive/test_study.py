"""Several archived sessions as one dataset, judged by the validator of the BIDS schema."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mindsight.archive import write_archive
from mindsight.archive.names import DERIVED
from mindsight.archive.read import read_mask
from mindsight.archive.study import write_study
from mindsight.errors import BadRequest, Conflict
from support.archive_example import make_session


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("archives")
    made = []
    for subject, session in (("sub-one", "a"), ("sub-one", "b"), ("sub-two", "a")):
        write_archive(make_session(subject=subject, session=session), folder / f"{subject}_{session}")
        made.append(folder / f"{subject}_{session}")
    return made


def issues(dataset: Path) -> list[str]:
    """Errors that the validator finds, warnings left out."""
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip("needs bids-validator-deno")
    done = subprocess.run([validator, dataset, "--json"], capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(done.stdout)["issues"]["issues"]
    return [f"{one['code']} {one.get('location')}" for one in found if one["severity"] == "error"]


def test_raw_data_and_derivatives_pass_the_validator_of_the_schema(archives: list[Path], tmp_path: Path) -> None:
    study = write_study(archives, tmp_path / "study")
    assert (study.n_subjects, study.n_sessions) == (2, 3)
    assert study.n_files == sum(path.is_file() for path in (tmp_path / "study").rglob("*"))
    assert (tmp_path / "study" / "participants.tsv").read_text().splitlines()[1:] == ["sub-subone", "sub-subtwo"]
    assert issues(tmp_path / "study") == []
    assert issues(tmp_path / "study" / DERIVED) == []


def test_every_file_of_the_archives_is_there(archives: list[Path], tmp_path: Path) -> None:
    write_study(archives, tmp_path / "study")
    there = {path.name for path in (tmp_path / "study").rglob("*") if path.is_file()}
    renamed = {"provenance.json"}
    for archive in archives:
        names = {path.name for path in archive.rglob("*") if path.is_file()} - renamed
        assert {name for name in names - there if "_mask" not in name} == set()
    assert len([name for name in there if name.endswith("_desc-decoder_mask.nii.gz")]) == 3
    assert len(list((tmp_path / "study" / DERIVED / "provenance").iterdir())) == 3
    assert read_mask(archives[0])[0].any()


def test_it_is_whole_or_not_there(archives: list[Path], tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    with pytest.raises(Conflict):
        write_study(archives, tmp_path / "study")
    with pytest.raises(BadRequest, match="got other"):
        write_study([*archives, tmp_path / "other"], tmp_path / "new")
    broken = tmp_path / "broken"
    shutil.copytree(archives[0], broken)
    shutil.rmtree(broken / DERIVED / "sub-subone")
    with pytest.raises(BadRequest):
        write_study([archives[0], broken], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "study"]
