"""From a session's archive to its evaluation: a linear bundle, real archive files, the generator that comes along."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from mindsight import assets
from mindsight.archive import ArchivedEvent, ArchivedResult, ArchivedRun, ArchivedSession, write_archive
from mindsight.archive.read import is_archive, read_session
from mindsight.cli import app
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import BadRequest, ModelMismatch, NotFound
from mindsight.evaluation.run import evaluate_archive
from mindsight.events import RunEvent
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.stages import Stage
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume
from support.reported import Reported

N, V, SIDE = 8, 600, 64
PAIRS = [("scene-0", "scene-1"), ("scene-2", "scene-3")]
# run 1 shows images 0 to 7, run 2 the same in another order and image 3 again
SHOWN = {1: [0, 1, 2, 3, 4, 5, 6, 7], 2: [7, 3, 5, 1, 0, 2, 4, 6, 3]}
STAGES: tuple[Stage, ...] = ("fast", "final")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_bundle(folder: Path, encoder: DemoEncoder, images: np.ndarray, voxels_NV: np.ndarray) -> Bundle:
    tokens = encoder.encode(images)
    mask = np.zeros((10, 10, 6), np.bool_)
    mask.reshape(-1)[:V] = True
    z_NV = (voxels_NV - voxels_NV.mean(axis=0)) / voxels_NV.std(axis=0)
    return Bundle(
        subject="sub-x",
        created="2026-01-01T00:00:00+00:00",
        options=IngestOptions(),
        space=SubjectSpace(Volume(np.zeros((10, 10, 6), np.float32), np.eye(4), 1.5, 1, 0), mask),
        statistics=Statistics(voxels_NV.mean(axis=0), voxels_NV.std(axis=0), N),
        calibration=Calibration(temperature=0.05, null_confidence=0.2, log_loss=1.0, n=N),
        pool=CandidatePool(tuple(f"scene-{i}" for i in range(N)), tokens),
        decoder=LinearDecoder.fit(z_NV, tokens),
    ).save(folder)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, np.ndarray], list[dict[str, Any]]]:
    """Archive, bundle, the images by name, and every output as it was archived."""
    folder, rng = tmp_path_factory.mktemp("visit"), np.random.default_rng(0)
    encoder = DemoEncoder.load(assets.ENCODER)
    images = render_batch(random_scenes(rng, N), SIDE)
    loads = rng.normal(size=(encoder.n_tokens * encoder.token_dim, V)) / 10
    voxels_NV = (encoder.encode(images).reshape(N, -1) @ loads).astype(np.float32)
    bundle = write_bundle(folder / "bundle", encoder, images, voxels_NV)
    decoder = TrialDecoder(bundle, clock=lambda: 0.0)
    files = {hashlib.sha256(png(image)).hexdigest(): png(image) for image in images}
    digests, outputs, runs, drawn = list(files), [], [], {}
    for run, shown in SHOWN.items():
        noisy = {
            stage: voxels_NV[shown] + noise * rng.normal(size=(len(shown), V))
            for stage, noise in zip(STAGES, (40, 1), strict=True)
        }
        betas: dict[tuple[int, Stage], np.ndarray] = {}
        for trial, picture in enumerate(shown, 1):
            for stage in STAGES:
                betas[trial, stage] = noisy[stage][trial - 1].astype(np.float32)
                found = decoder.retrieve(betas[trial, stage], bundle.statistics.mean_V, bundle.statistics.std_V, PAIRS)
                recon = np.clip(images[picture] * 0.7 + rng.uniform(0, 80, images[picture].shape), 0, 255).astype(
                    np.uint8
                )
                drawn[f"{run}-{trial}-{stage}"] = recon
                content = png(recon)
                files[hashlib.sha256(content).hexdigest()] = content
                result = {
                    "candidates": [{"id": one.id, "score": one.score} for one in found.candidates],
                    "confidence": found.confidence,
                    "pool_size": N,
                    "pairs": [
                        {"first": p.first, "second": p.second, "chosen": p.chosen, "margin": p.margin}
                        for p in found.pairs
                    ],
                }
                outputs.append(
                    ArchivedResult(
                        run,
                        trial,
                        stage,
                        found.confidence,
                        reconstruction=hashlib.sha256(content).hexdigest(),
                        details={"result": result},
                    )
                )
        runs.append(
            ArchivedRun(
                run=run, task="pictures", tr_s=1.5, n_volumes=3, volumes=volumes(run),
                events=[
                    ArchivedEvent(RunEvent(4.0 * t, 3.0, "scene"), t, digests[picture], f"scene-{picture}")
                    for t, picture in enumerate(shown, 1)
                ],
                motion_T6=np.zeros((3, 6)), fd_mm_T=np.zeros(3), dvars_percent_T=np.zeros(3),
                censored_T=np.zeros(3, bool), betas=betas,
            )
        )  # fmt: skip
    session = ArchivedSession(
        subject="x", session="1", runs=runs, mask_XYZ=bundle.space.mask_XYZ, affine=np.eye(4), results=outputs,
        images=files, provenance={"models": [bundle.digest]},
    )  # fmt: skip
    write_archive(session, folder / "archive")
    shown_images = {f"scene-{i}": image for i, image in enumerate(images)}
    return (
        folder / "archive",
        folder / "bundle",
        shown_images | drawn,
        [{"run": a.run, "trial": a.trial, "stage": a.stage} | dict(a.details["result"]) for a in outputs],
    )


def volumes(run: int) -> Iterator[Volume]:
    for index in range(3):
        yield Volume(np.zeros((10, 10, 6), np.int16), np.eye(4), 1.5, run, index)


def held(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return read


@pytest.fixture(scope="module")
def commanded(visit: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """What ``mindsight evaluate`` wrote of the archive, and what it printed."""
    out = tmp_path_factory.mktemp("commanded") / "out"
    return out, CliRunner().invoke(app, ["evaluate", str(visit[0]), "--out", str(out)])


@pytest.mark.slow
def test_live_results_are_counted(visit: Any, commanded: tuple[Path, Result], tmp_path: Path) -> None:
    archive, _, _, outputs = visit
    assert is_archive(archive)
    assert not is_archive(tmp_path)
    out, _ = commanded
    live = {figure["title"]: figure for figure in held(out)["live"]}
    for stage in STAGES:
        given = [one for one in outputs if one["stage"] == stage]
        truth = [f"scene-{SHOWN[one['run']][one['trial'] - 1]}" for one in given]
        first = [one["candidates"][0]["id"] == true for one, true in zip(given, truth, strict=True)]
        figure = live[f"{stage}: first candidate"]
        assert (figure["value"], figure["n"], figure["chance"]) == (np.mean(first), 17, 1 / N)
        assert figure["mean_confidence"] == pytest.approx(np.mean([one["confidence"] for one in given]))
        five = [true in [c["id"] for c in one["candidates"][:5]] for one, true in zip(given, truth, strict=True)]
        assert live[f"{stage}: first five candidates"]["value"] == np.mean(five)
        chosen = [
            pair["chosen"] == true
            for one, true in zip(given, truth, strict=True)
            for pair in one["pairs"]
            if true in (pair["first"], pair["second"])
        ]
        pairs = live[f"{stage}: look-alike pairs"]
        assert (pairs["value"], pairs["n"], pairs["chance"]) == (np.mean(chosen), 9, 0.5)
    assert live["final: first candidate"]["value"] > live["fast: first candidate"]["value"]
    control = live["final: compared with other trials' images"]
    assert control["control"]
    assert control["value"] <= 0.2
    assert "first five candidates" in (out / "table.txt").read_text()


def test_a_session_with_images_has_its_course_too(visit: Any, commanded: tuple[Path, Result]) -> None:
    _, _, _, outputs = visit
    session = held(commanded[0])["session"]
    final = session["by_trial_of_the_run"][-2:]
    assert [one["title"] for one in final] == ["final: trials 1 to 6 of a run", "final: trials 7 to 15"]
    assert [one["n"] for one in final] == [12, 5]
    assert sum(one["n"] for one in session["reliability"]["final"]["bins"]) == 17
    assert [one["n"] for one in session["over_trials"]["fast"]] == [9, 8]
    right = sum(
        one["candidates"][0]["id"] == f"scene-{SHOWN[one['run']][one['trial'] - 1]}"
        for one in outputs
        if one["stage"] == "fast"
    )
    assert sum(one["hits"] for one in session["over_trials"]["fast"]) == right
    assert "Over the session" in (commanded[0] / "evaluation.html").read_text()


def test_the_page_has_pairs(commanded: tuple[Path, Result]) -> None:
    out, _ = commanded
    assert "look-alike pairs" in (out / "evaluation.html").read_text()


@pytest.mark.slow
def test_showings_are_samples_of_their_image(visit: Any, tmp_path: Path) -> None:
    archive, _, pictures, _ = visit
    evaluation = evaluate_archive(archive, tmp_path / "out", stage="fast")
    recons = np.load(tmp_path / "out" / "answers" / "reconstructions.npy")
    assert recons.shape == (N, 2, SIDE, SIDE, 3)
    assert evaluation.n_images == N
    for i in range(N):  # image 3 was shown three times: the first two count
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "images.npy")[i], pictures[f"scene-{i}"])
        np.testing.assert_array_equal(recons[i, 0], pictures[f"1-{i + 1}-fast"])
        np.testing.assert_array_equal(recons[i, 1], pictures[f"2-{SHOWN[2].index(i) + 1}-fast"])
    manifest = json.loads((tmp_path / "out" / "answers" / "manifest.json").read_text())
    assert manifest["image_names"] == [f"scene-{i}" for i in range(N)]
    assert "scene-5" in (tmp_path / "out" / "evaluation.html").read_text()
    assert held(tmp_path / "out")["rows"][0]["scores"]["pixcorr"]["value"] > 0.8


@pytest.mark.slow
def test_with_the_bundle_there_is_retrieval_and_controls_through_the_whole_path(visit: Any, tmp_path: Path) -> None:
    archive, bundle, _, _ = visit
    reported = Reported()
    evaluate_archive(archive, tmp_path / "out", bundle=bundle, report=reported)
    reported.check(n_lines=2 * N)
    rows = {row["title"]: row["scores"] for row in held(tmp_path / "out")["rows"]}
    assert set(rows) == {"final results", "betas of other trials", "noise into the generator", "pairs exchanged"}
    assert rows["final results"]["images_ranked"]["value"] == 1.0
    assert rows["final results"]["images_ranked"]["candidates"] == N
    assert rows["betas of other trials"]["images_ranked"]["value"] < 0.3
    for name in ("betas of other trials", "noise into the generator"):
        assert rows[name]["pixcorr"]["value"] < rows["final results"]["pixcorr"]["value"] - 0.2
    evaluate_archive(archive, tmp_path / "out")  # and without it nothing of that is left
    assert [row["title"] for row in held(tmp_path / "out")["rows"]] == ["final results", "pairs exchanged"]


def test_other_bundles_stages_and_folders_are_refused(visit: Any, tmp_path: Path) -> None:
    archive, _, _, _ = visit
    with pytest.raises(ModelMismatch) as error:
        evaluate_archive(archive, tmp_path / "out", bundle=assets.BUNDLE)
    assert error.value.code == "archive.bundle"
    with pytest.raises(BadRequest, match="revised"):
        evaluate_archive(archive, tmp_path / "out", stage="revised")
    with pytest.raises(BadRequest, match="'last'"):
        evaluate_archive(archive, tmp_path / "out", stage="last")
    with pytest.raises(NotFound, match="nowhere"):
        evaluate_archive(archive, tmp_path / "out", bundle=tmp_path / "nowhere")
    with pytest.raises(BadRequest, match="got 0 tables"):
        read_session(tmp_path)


def test_one_command_from_the_archive_to_the_page(visit: Any, commanded: tuple[Path, Result], tmp_path: Path) -> None:
    archive, _, _, _ = visit
    out, done = commanded
    assert done.exit_code == 0, done.output
    assert "final: first candidate" in done.output
    assert str(out / "evaluation.html") in done.output
    for wrong in ([str(archive), str(tmp_path)], [str(tmp_path)]):
        refused = CliRunner().invoke(app, ["evaluate", *wrong, "--out", str(tmp_path / "no")])
        assert isinstance(refused.exception, BadRequest)
