"""Several archived sessions as one dataset, judged by the validator of the BIDS schema."""

from __future__ import annotations

import json
import re
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
    renamed = {"provenance.json"}  # the session's name is in front of it, in logs/
    for archive in archives:
        names = {path.name for path in archive.rglob("*") if path.is_file()} - renamed
        assert {name for name in names - there if "_mask" not in name} == set()
    assert len([name for name in there if name.endswith("_desc-decoder_mask.nii.gz")]) == 3
    assert len(list((tmp_path / "study" / DERIVED / "logs").glob("*_provenance.json"))) == 3
    assert read_mask(archives[0])[0].any()


def test_images_say_what_they_are_and_what_they_were_made_of(archives: list[Path], tmp_path: Path) -> None:
    write_study(archives, tmp_path / "study")
    derived = tmp_path / "study" / DERIVED
    described = {row.split("\t")[0] for row in (derived / "descriptions.tsv").read_text().splitlines()[1:]}
    images = list(derived.rglob("sub-*.nii.gz"))
    assert len(images) == 3 * (1 + 2 * 4)  # a mask; of each run the series, betas at two stages, variances at one
    for path in images:
        assert re.findall(r"_(desc-[A-Za-z0-9]+)_", path.name)[0] in described
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["Description"]
        for source in sidecar["Sources"]:
            assert (tmp_path / "study" / source.removeprefix("bids:raw:")).is_file()
        assert len(sidecar["Sources"]) == (2 if "_mask" in path.name else 1)
    assert "Sources" not in json.loads(next(archives[0].rglob("*desc-preproc_bold.json")).read_text())


@pytest.mark.slow
def test_what_the_validator_leaves_out_is_what_it_does_not_know(archives: list[Path], tmp_path: Path) -> None:
    """Each line of .bidsignore names files, and every file that it names has a name that BIDS has no rule for."""
    write_study(archives, tmp_path / "study")
    derived = tmp_path / "study" / DERIVED
    lines = [line for line in (derived / ".bidsignore").read_text().splitlines() if line and line[0] != "#"]
    named = {line: set(derived.rglob(line.rpartition("/")[2])) for line in lines}
    assert [line for line, found in named.items() if not found] == []
    (derived / ".bidsignore").unlink()
    found = {path for paths in named.values() for path in paths}
    files = {path for one in found for path in (one, *one.rglob("*")) if path.is_file()}
    wrong = [one.split(" /", 1) for one in issues(derived)]
    assert {code for code, _ in wrong} == {"NOT_INCLUDED"}
    assert {derived / path for _, path in wrong if (derived / path).is_file()} == files


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
