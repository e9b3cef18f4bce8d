"""The report of a calibration: its figures are the record's, its page stands alone, its maps show voxels in place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindsight.evaluation.calibration_record import CalibrationRecord
from mindsight.evaluation.calibration_report import write_report
from mindsight.evaluation.reliability import calibration_error, reliability
from mindsight.evaluation.report.glass_brain import PANEL_PX, on_template, projections
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool
from mindsight.subjects.bundle.description import REPORT, REPORT_FIGURES, REPORT_PAGE
from mindsight.volume import Volume
from support.calibration_record import POOL, VOXELS, record_of

PARTS = (
    *("Needs", "Retrieval, both ways", "Learning curve", "Noise ceiling", "Confidence, final", "Reconstructions"),
    *("Motion and quality", "Registration", "control: labels shuffled", "The head moved."),
)
AFFINE = np.array([[-3.0, 0, 0, 12], [0, 3, 0, -9], [0, 0, 3, -6], [0, 0, 0, 1]])


@pytest.fixture
def space() -> SubjectSpace:
    mask_XYZ = np.zeros((8, 7, 5), np.bool_)
    mask_XYZ[2:5, 2:4, :] = True
    assert mask_XYZ.sum() == VOXELS
    data_XYZ = np.full(mask_XYZ.shape, 20, np.float32) + 600 * mask_XYZ
    return SubjectSpace(Volume(data_XYZ, AFFINE, 2.0, run=1, index=0), mask_XYZ)


@pytest.fixture
def pool(tmp_path: Path) -> CandidatePool:
    path = tmp_path / "shown.png"
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(path)
    ids = tuple(f"image-{k}" for k in range(POOL))
    return CandidatePool(ids, np.eye(POOL, dtype=np.float32), ids, (path, *[None] * (POOL - 1)))


def test_the_report_is_what_was_measured(tmp_path: Path, space: SubjectSpace, pool: CandidatePool) -> None:
    record = record_of(n_trials=60)
    write_report(tmp_path, record, space, pool)
    held = json.loads((tmp_path / REPORT / REPORT_FIGURES).read_text())
    finals = record.of_stage("final")
    first = next(one for one in held["retrieval"] if one["title"] == f"final: image retrieval, first of {POOL}")
    assert (first["hits"], first["n"]) == (sum(one.image_rank == 1 for one in finals), 60)
    assert first["chance"] == pytest.approx(1 / POOL)
    brains = next(one for one in held["retrieval"] if one["title"].startswith("final: brain retrieval"))
    assert brains["hits"] == sum(one.brain_rank == 1 for one in finals)
    assert [one["trials"] for one in held["learning_curve"]] == [60, 120]
    assert held["verdict"]["kind"] == "needs_more"
    assert held["verdict"]["more_trials"]["low"] <= held["verdict"]["more_trials"]["high"]
    assert CalibrationRecord.load(tmp_path / REPORT).as_json() == record.as_json()


def test_the_page_stands_alone_and_has_every_part(tmp_path: Path, space: SubjectSpace, pool: CandidatePool) -> None:
    write_report(tmp_path, record_of(n_trials=60), space, pool)
    page = (tmp_path / REPORT / REPORT_PAGE).read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    for part in PARTS:
        assert part in page, part
    images = re.findall(r"alt='(\w+)' src='data:image/jpeg", page)
    assert images == ["shown", "reconstruction", "reconstruction"]  # the pool has the image of one of two


def test_a_record_of_nothing_but_trials_has_a_page(tmp_path: Path, space: SubjectSpace, pool: CandidatePool) -> None:
    whole = record_of(n_trials=4)
    bare = CalibrationRecord(
        subject="sub-01", created=whole.created, decoder="mindeye2", held_out="never seen", pool_size=POOL,
        voxels=VOXELS, minutes=1.0, trials=whole.trials,
    )  # fmt: skip
    write_report(tmp_path, bare, space, pool)
    page = (tmp_path / REPORT / REPORT_PAGE).read_text()
    assert "which needs images that are shown twice" in page
    assert "too few to tell" in page


def test_projections_put_voxels_where_they_are(space: SubjectSpace) -> None:
    """The first axis runs to the left here, so that a voxel with a high index is on the image's left."""
    one_V = np.zeros(VOXELS, np.float32)
    indices_V3 = np.argwhere(space.mask_XYZ)
    one_V[np.flatnonzero((indices_V3 == [4, 3, 4]).all(axis=1))] = 1.0
    pixels = projections(one_V, space.mask_XYZ, AFFINE, 1.0).astype(int)
    assert pixels.shape == (PANEL_PX, 3 * PANEL_PX, 3)
    hot = (pixels[..., 0] > 200) & (pixels[..., 2] < 100)
    sagittal, coronal, axial = (hot[:, k * PANEL_PX : (k + 1) * PANEL_PX] for k in range(3))
    for panel, left in ((coronal, True), (axial, True)):
        assert panel.any()
        assert (np.nonzero(panel)[1].mean() < PANEL_PX / 2) == left
    assert np.nonzero(sagittal)[0].mean() < PANEL_PX / 2  # the top slice
    assert not (projections(np.full(VOXELS, np.nan, np.float32), space.mask_XYZ, AFFINE, 1.0)[..., 0] > 200).any()


@pytest.mark.slow
def test_nilearn_draws_its_glass_brain(space: SubjectSpace) -> None:
    made = on_template(np.linspace(0, 1, VOXELS, dtype=np.float32), space.mask_XYZ, space.mask_XYZ, AFFINE, 1.0)
    assert made is not None
    assert made.startswith(b"\x89PNG")


def test_reliability_of_honest_and_of_boastful_confidence() -> None:
    rng = np.random.default_rng(0)
    stated_K = rng.uniform(0.05, 0.95, 4000)
    honest = reliability(stated_K.tolist(), (rng.random(4000) < stated_K).tolist(), 0.05)
    assert sum(one.observed.n for one in honest) == 4000
    assert calibration_error(honest) < 0.03
    boastful = reliability(stated_K.tolist(), (rng.random(4000) < stated_K - 0.05).tolist(), 0.05)
    assert calibration_error(boastful) == pytest.approx(0.05, abs=0.02)
    assert len(reliability([0.5] * 9, [True] * 9, 0.05)) == 1
    assert reliability([], [], 0.05) == []
