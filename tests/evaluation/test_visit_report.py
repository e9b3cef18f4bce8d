"""The report of an archived session."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mindsight.archive import write_archive
from mindsight.errors import BadRequest, Conflict
from mindsight.evaluation.report.visit_page import methods, visit_page
from mindsight.evaluation.visit_report import read_visit, report_file, write_report
from support.archive_example import MISSING, N_VOLUMES, make_decoded_session


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives") / "sub-one_a"
    write_archive(make_decoded_session(subject="sub-one", session="a"), folder)
    return folder


def test_the_page_has_every_part_and_loads_nothing(archive: Path) -> None:
    file = write_report(archive)
    assert file == report_file(archive)
    page = file.read_text()
    for part in (
        "Quality",
        "Motion",
        "Accuracy as the results came",
        "Latency",
        "Reconstructions",
        "Methods",
        "Versions",
    ):
        assert f"<h2>{part}" in page
    assert not re.search(r"(src|href)='(?!data:)", page)
    assert "<script" not in page
    assert page.count("translation, mm") == 2
    assert write_report(archive).read_text() == page  # the same archive gives the same page


def test_it_states_what_was_measured_and_what_was_not(archive: Path) -> None:
    visit = read_visit(archive)
    assert [course.run for course in visit.runs] == [1, 2]
    course = visit.runs[0]
    assert len(course.fd_mm_T) == N_VOLUMES
    assert list(np.flatnonzero(course.missing_T)) == list(MISSING)
    assert course.censored_T.sum() == 2
    page = visit_page(visit)
    assert "2 runs, 40 volumes, 1.0 min, 4 volumes left out of the betas" in page
    assert "TR 1.5 s" in methods(visit)
    assert "a pool of 40" in methods(visit)


def test_what_is_no_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        write_report(tmp_path)
    (tmp_path / "page.html").write_text("")
    with pytest.raises(Conflict):
        write_report(archive, tmp_path / "page.html")
