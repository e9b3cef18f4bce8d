"""Calibration on nine real runs of a person who looks at eight kinds of images (Haxby et al., Science 2001)."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mindsight import assets
from mindsight.accuracy import Accuracy
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.glm import Event
from mindsight.glm.hrf import kernel, regressors
from mindsight.ingest import IngestOptions
from mindsight.operations.replay import Summary, replay
from mindsight.retrieval import CandidatePool
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.subjects.bundle.decoder import Sampling
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.command import main
from training.calibration.glm_choice import VoxelRun, choose
from training.calibration.linear_bundle import calibrate_linear

CREATED = datetime(2025, 1, 1, tzinfo=UTC)
KINDS = {"face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambledpix"}


@pytest.fixture(scope="module")
def folders(shared: Path) -> list[Path]:
    return [shared / "data" / "haxby2001" / f"run-{number:03d}" for number in range(1, 10)]


def calibrated(folders: Sequence[Path], out: Path) -> Path:
    calibrate_linear(folders, "trial_type", "sub-01", CREATED).save(out)
    return out


def replayed(folder: Path, bundle: Path, results: Path) -> Summary:
    return replay(folder, bundle, speed=math.inf, results=results, clock=time.perf_counter, sleep=time.sleep)


@pytest.fixture(scope="module")
def commanded(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The bundle that the command makes of the first three runs, and what it says."""
    out, printed = tmp_path_factory.mktemp("commanded") / "bundle", io.StringIO()
    with contextlib.redirect_stdout(printed):
        options = ["--labels", "trial_type", "--decoder", "linear", "--preset", "reference", "--out", str(out)]
        assert main([*map(str, folders[:3]), *options]) == 0
    return out, printed.getvalue()


# Runs that have three before them: the first, and all.
SHORT, LONG = pytest.param(range(3, 4), id="short"), pytest.param(range(3, 9), id="long", marks=pytest.mark.slow)


@pytest.mark.parametrize("tested", [SHORT, LONG])
def test_runs_are_decoded_by_the_runs_before_them(
    folders: list[Path], commanded: tuple[Path, str], tmp_path: Path, tested: range
) -> None:
    total = Accuracy(0, 0, 0.125)
    for k in tested:
        bundle = commanded[0] if k == 3 else calibrated(folders[:k], tmp_path / f"bundle-{k + 1}")
        results = tmp_path / f"run-{k + 1}.jsonl"
        total += replayed(folders[k], bundle, results).accuracy["final"]
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        finals = [line for line in lines if line["stage"] == "final"]
        assert [line["trial"] for line in finals] == list(range(1, 9))
        assert {line["label"] for line in finals} == KINDS
        assert all(line["run"] == k + 1 and set(line["scores"]) == KINDS for line in lines)
        assert all(max(line["scores"], key=line["scores"].get) == line["predicted"] for line in lines)
        assert all({"beta", "decode", "retrieve", "total"} <= set(line["latency_ms"]) for line in lines)
    print(f"final answers of runs {tested[0] + 1} to {tested[-1] + 1}: {total}")
    assert (total.n, total.chance) == (8 * len(tested), 0.125)
    assert total.value >= 0.45


@pytest.mark.slow
@pytest.mark.parametrize("tested", [SHORT, LONG])
def test_shuffled_labels_fall_to_chance(folders: list[Path], tmp_path: Path, tested: range) -> None:
    tables = [(folder / "events.tsv").read_text().splitlines() for folder in folders]
    rows = [[line.split("\t") for line in table[1:]] for table in tables]
    rng = np.random.default_rng(0)  # within runs: what differs between runs stays as it is
    shuffled = [[run[place][2] for place in rng.permutation(len(run))] for run in rows]
    copies = []
    for folder, run, labels in zip(folders, rows, shuffled, strict=True):
        copies.append(tmp_path / folder.name)
        copies[-1].mkdir()
        for name in ("bold.nii.gz", "motion.txt"):
            (copies[-1] / name).symlink_to(folder / name)
        lines = [f"{row[0]}\t{row[1]}\t{label}" for row, label in zip(run, labels, strict=True)]
        (copies[-1] / "events.tsv").write_text("\n".join(["onset\tduration\ttrial_type", *lines]) + "\n")
    total = Accuracy(0, 0, 0.125)
    for k in tested:
        bundle = calibrated(copies[:k], tmp_path / f"bundle-{k + 1}")
        total += replayed(folders[k], bundle, tmp_path / "results.jsonl").accuracy["final"]
    print(f"with shuffled labels: {total}")
    assert total.n == 8 * len(tested)
    assert total.interval[0] <= 0.125 <= total.interval[1]


@pytest.mark.slow
def test_the_same_runs_give_the_same_bundle(folders: list[Path], tmp_path: Path) -> None:
    one, two = (Bundle.load(calibrated(folders[:2], tmp_path / name)) for name in ("one", "two"))
    assert one.digest == two.digest


def test_the_command_makes_a_bundle_and_reports_its_accuracy(commanded: tuple[Path, str]) -> None:
    folder, printed = commanded
    assert "of 24, 95 % interval" in printed
    assert "chance 12.5%" in printed
    bundle = Bundle.load(folder)
    assert (bundle.kind, bundle.labels, bundle.statistics.n) == ("linear", "trial_type", 24)
    assert set(bundle.pool.ids) == KINDS
    assert bundle.sampling == Sampling(generator=SampleOptions(preset="reference"))


def test_a_linear_decoder_has_no_low_level_image_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--decoder", "linear", "--preset", "sdedit", "--out", "bundle"])
    assert stopped.value.code == 2
    assert "needs --decoder mindeye2" in capsys.readouterr().err


@pytest.mark.slow
def test_labels_are_decoded_into_the_embeddings_of_a_pool(folders: list[Path], tmp_path: Path) -> None:
    """Eight kinds among twelve candidates of 20 numbers that share most of their power, named as files are."""
    rng = np.random.default_rng(0)
    ids = [f"objects/{kind}" for kind in sorted(KINDS)] + [f"never/{i}" for i in range(4)]
    embeddings = rng.normal(size=(12, 20)) + 2.0 * rng.normal(size=20)
    CandidatePool(tuple(ids), embeddings.astype(np.float16), source="a test").save(tmp_path / "pool")
    copies = []
    for folder in folders[:4]:
        copies.append(tmp_path / folder.name)
        copies[-1].mkdir()
        for name in ("bold.nii.gz", "motion.txt"):
            (copies[-1] / name).symlink_to(folder / name)
        rows = [line.split("\t") for line in (folder / "events.tsv").read_text().splitlines()[1:]]
        lines = [f"{row[0]}\t{row[1]}\t{row[2]}\tobjects/{row[2]}.jpg" for row in rows]
        (copies[-1] / "events.tsv").write_text("\n".join(["onset\tduration\ttrial_type\tstim_file", *lines]) + "\n")
    arguments = [*map(str, copies[:3]), "--labels", "stim_file", "--pool", str(tmp_path / "pool")]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == 0
    bundle = Bundle.load(tmp_path / "bundle")
    assert isinstance(bundle.decoder, LinearDecoder)
    assert bundle.decoder.shape == bundle.pool.token_shape == (20,)
    assert (bundle.pool.ids, bundle.pool.source) == (tuple(ids), "a test")
    assert bundle.accuracy is not None
    assert (bundle.accuracy.n, bundle.accuracy.chance) == (24, pytest.approx(1 / 12))
    assert bundle.accuracy.interval[0] > 1 / 12
    accuracy = replayed(copies[3], tmp_path / "bundle", tmp_path / "results.jsonl").accuracy["final"]
    assert (accuracy.n, accuracy.chance) == (8, pytest.approx(1 / 12))
    assert accuracy.hits >= 2


@pytest.mark.slow
def test_with_a_pool_of_image_tokens_the_fit_of_reconstructions_is_calibrated(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of image as a simulated scene: the decoder knows no better, the generator draws what it decodes."""
    encoder = DemoEncoder.load(assets.ENCODER)
    scenes = render_batch(random_scenes(np.random.default_rng(1), len(KINDS)), encoder.image_size)
    pool = CandidatePool(tuple(sorted(KINDS)), encoder.encode(scenes), recorded_space=encoder.space)
    pool.save(tmp_path / "pool")
    arguments = [*map(str, folders[:2]), "--pool", str(tmp_path / "pool"), "--reconstructions", "6"]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == 0
    assert "fit of reconstructions: calibrated at fast (6 trials), revised (6 trials), final" in capsys.readouterr().out
    fit = Bundle.load(tmp_path / "bundle").fit
    assert fit is not None
    assert fit.encoder == encoder.digest
    assert {stage: others.n for stage, others in fit.stages.items()} == {"fast": 6, "revised": 6, "final": 6}
    drawn = json.loads((tmp_path / "bundle" / "report" / "report.json").read_text())["reconstructions"]
    assert [(one["run"], one["stage"]) for one in drawn] == [(1, "final")] * 3 + [(2, "final")] * 3
    assert len({(one["run"], one["trial"]) for one in drawn}) == 6
    page = (tmp_path / "bundle" / "report" / "report.html").read_text()
    assert page.count("alt='reconstruction'") == 6


def test_labels_alone_have_no_reconstructions_to_calibrate(commanded: tuple[Path, str]) -> None:
    assert "fit of reconstructions: not calibrated" in commanded[1]
    assert Bundle.load(commanded[0]).fit is None


def test_the_report_is_in_the_bundle_and_hashed_with_it(commanded: tuple[Path, str], tmp_path: Path) -> None:
    folder, printed = commanded
    figures = json.loads((folder / "report" / "report.json").read_text())
    finals = next(one for one in figures["retrieval"] if one["title"] == "final: image retrieval, first of 8")
    accuracy = Bundle.load(folder).accuracy
    assert accuracy is not None
    assert (finals["n"], finals["chance"]) == (accuracy.n, 0.125)
    assert abs(finals["hits"] - accuracy.hits) <= 1  # of equal scores, here the right one ranks last
    assert [run["volumes"] for run in figures["runs"]] == [121] * 3
    assert figures["verdict"]["headline"] in printed
    page = (folder / "report" / "report.html").read_text()
    assert "alt='glass brain'" in page
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    (changed / "report" / "report.html").write_text(page.replace("Calibration", "Calibrations", 1))
    with pytest.raises(ModelMismatch) as raised:
        Bundle.load(changed)
    assert raised.value.code == "bundle.tampered"


def test_a_negative_number_of_reconstructions_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run-1", "--reconstructions", "-1", "--out", "bundle"])
    assert ended.value.code == 2
    assert "--reconstructions" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["one run", "no labels", "no folder", "taken"])
def test_an_error_is_one_line(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    runs = [str(folder) for folder in folders[:2]]
    arguments = {
        "one run": [runs[0], "--out", str(tmp_path / "bundle")],
        "no labels": [*runs, "--labels", "stim_file", "--out", str(tmp_path / "bundle")],
        "no folder": [runs[0], str(tmp_path / "nowhere"), "--out", str(tmp_path / "bundle")],
        "taken": [*runs, "--out", str(tmp_path)],
    }[wrong]
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("mindsight: expected")
    assert printed.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


def simulated(rng: np.random.Generator, lag_s: float, response: float, n_runs: int = 4) -> list[VoxelRun]:
    """Runs of brief trials, 12 s apart, two kinds, whose responses come ``lag_s`` after what the events say."""
    tr_s, n_frames, n_voxels = 1.5, 160, 60
    patterns = rng.normal(size=(2, n_voxels)) + 1.0
    onsets = 12.0 + 12.0 * np.arange(16)
    runs = []
    for _ in range(n_runs):
        kinds = rng.permutation(np.arange(16) % 2)
        shape_TK = regressors(np.cumsum(kernel("glover", tr_s)), onsets + lag_s, np.full(16, 2.0), n_frames, tr_s)
        series = 100.0 + rng.normal(size=(n_frames, n_voxels)) + response * shape_TK @ patterns[kinds]
        events = tuple(Event(float(onset), 2.0, number + 1) for number, onset in enumerate(onsets))
        shown = {number + 1: int(kind) for number, kind in enumerate(kinds)}
        no = np.zeros(n_frames, np.bool_)
        runs.append(VoxelRun(series.astype(np.float32), np.zeros((n_frames, 0)), no, events, shown, tr_s))
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("lag_s", [3.0, 0.0])
def test_the_lag_in_the_data_is_found(lag_s: float) -> None:
    pool = CandidatePool(("a", "b"), np.eye(2, dtype=np.float32))
    runs = simulated(np.random.default_rng(3), lag_s, response=8.0)
    chosen = choose(runs, pool, IngestOptions(normalise="run"))
    assert chosen.options == IngestOptions(normalise="run", event_lag_s=lag_s)
    assert (chosen.hrf_V, chosen.noise_pool_V) == (None, None)
