"""A visit's calibration: bundles while it goes on, only better ones, the same ones after an interruption."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mindsight.decoders.mindeye2.decoder import BACKBONE
from mindsight.errors import BadRequest, Conflict, ModelMismatch
from mindsight.evaluation.calibration_record import CalibrationRecord
from mindsight.retrieval import rank
from mindsight.subjects.bundle.folder import Bundle
from support.invented_visit import DIM, N_TOKENS, OPTIONS, V, images, responses, run_of, space, stimuli
from training.calibration import ranked
from training.calibration.gradient import Recipe
from training.calibration.visit import Calibrated, Progress, Visit, calibrate_visit
from training.calibration.visit_runs import CalibrationRun, keep_run, read_run

POOL = stimuli()
RECIPE = Recipe(steps=60, batch=24, learning_rate=5e-3, look_every=20)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared model of three other participants."""
    import torch

    from mindsight.weights.artefact import write_artefact
    from training.pretraining.demo_decoder import shared_weights
    from training.pretraining.mindeye import Config, Recipe, Seen, pretrain

    recipe = Recipe(steps=100, batch=64, prior_batch=48, learning_rate=3e-3)
    config = Config(hidden=24, prior=None, session_trials=(100,), pretraining=recipe)
    seen = []
    for person in (1, 2, 3):
        tokens = images(100 + person, 200)
        noise = 1.5 * np.random.default_rng(person).normal(size=(200, V))
        betas = torch.from_numpy((responses(person, tokens) + noise).astype(np.float32))
        seen.append(Seen(betas, torch.from_numpy(tokens)))
    folder = tmp_path_factory.mktemp("backbone")
    write_artefact(folder, "mindeye2", {}, shared_weights(pretrain(seen, config, seed=0)))
    return folder


def visit(backbone: Path | None = None) -> Visit:
    return Visit(
        subject="sub-invented",
        created=datetime(2026, 1, 2, tzinfo=UTC),
        options=OPTIONS,
        space=space(),
        stimuli=POOL,
        backbone=backbone,
    )


def runs(n: int, **settings: float) -> list[CalibrationRun]:
    return [run_of(POOL, number, **settings) for number in range(1, n + 1)]  # type: ignore[arg-type]


def hits(bundle: Bundle, run: CalibrationRun) -> int:
    """Of the final betas of a run, among all images."""
    decoder = bundle.decoder.decoder(bundle.pool.space)
    keep_V = bundle.space.mask_XYZ[space().mask_XYZ]
    right = 0
    for beta in run.finals:
        z_V = ((beta.beta_V - beta.mean_V) / beta.std_V)[keep_V]
        features = decoder(z_V[None].astype(np.float32))[decoder.query]
        right += POOL.ids[rank(np.asarray(features)[0], POOL, 1).indices_K[0]] == run.shown[beta.trial]
    return right


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["backbone", "linear"])
def test_each_bundle_decodes_a_later_run(shared: bool, backbone: Path, tmp_path: Path) -> None:
    curve: list[Progress] = []
    found = list(
        calibrate_visit(
            visit(backbone if shared else None), runs(3), tmp_path / "s", n_runs=3, report_progress=curve.append
        )
    )
    assert found
    assert found[0].runs == (1,)
    later = run_of(POOL, 5)
    right = [hits(each.bundle.save(tmp_path / f"bundle-{i}"), later) for i, each in enumerate(found)]
    # 40 trials among 160 images: chance is 0.25 hits; more than 1 happens once in forty, more than 4 never
    assert min(right) > 1
    assert right[-1] > 4
    assert [each.done for each in curve if each.stage == "closed form"] == [1, 2, 3]
    assert len(curve[-1].curve) == 2
    assert curve[-1].left_s == 0.0


@pytest.mark.parametrize("room", [True, False], ids=["linear beside it", "no room"])
def test_under_a_backbone_whatever_ranks_better_ranks(
    room: bool, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone that ranks worse still gives the tokens; a linear decoder of the published size has no room."""
    if not room:
        monkeypatch.setattr(ranked, "MAX_LINEAR", V * N_TOKENS * DIM - 1)
    *_, last = calibrate_visit(visit(backbone), runs(2), tmp_path / "s", once=True, n_runs=2)
    bundle = last.bundle.save(tmp_path / "bundle")
    decoder, record = bundle.decoder.decoder(bundle.pool.space), last.record
    assert decoder.condition == (BACKBONE,)
    assert record.reliability_V is not None
    assert decoder.n_voxels == bundle.space.n_voxels == record.voxels == len(record.reliability_V)
    assert record.decoder == last.how
    if not room:
        assert bundle.kind == "mindeye2"
        assert "linear" not in last.how
        return
    assert bundle.kind == "pair"
    assert last.how.startswith("ranked by a linear decoder: ")
    *_, under = calibrate_visit(replace(visit(), backbone=None), runs(2), tmp_path / "linear", once=True, n_runs=2)
    assert bundle.accuracy == under.bundle.accuracy
    later = run_of(POOL, 5)
    assert hits(bundle, later) == hits(under.bundle, later)


@pytest.mark.slow
def test_the_record_holds_every_left_out_trial_and_a_control_at_chance(tmp_path: Path) -> None:
    *_, last = calibrate_visit(visit(), runs(3), tmp_path / "s")
    (tmp_path / "record").mkdir()
    last.record.save(tmp_path / "record")
    record = CalibrationRecord.load(tmp_path / "record")
    assert {(trial.run, trial.trial, trial.stage) for trial in record.trials} == {
        (run, trial, stage) for run in range(1, 4) for trial in range(1, 41) for stage in ("fast", "revised", "final")
    }
    right = np.mean([trial.image_rank == 1 for trial in record.of_stage("final")])
    assert right > 0.3
    assert not record.controls[0].leaks
    assert [point.trials for point in record.curve] == sorted(point.trials for point in record.curve)
    assert record.curve[-1].accuracy.value > record.curve[0].accuracy.value - 0.1
    confident = [trial.confidence for trial in record.of_stage("final")]
    assert abs(np.mean(confident) - right) < 0.15


@pytest.mark.slow
def test_a_worse_decoder_does_not_replace_a_better_one(tmp_path: Path) -> None:
    """A third run whose labels are those of other images."""
    good = runs(2, noise=0.6)
    third = run_of(POOL, 3, noise=0.6)
    wrong = replace(third, shown=dict(zip(third.shown, reversed(third.shown.values()), strict=True)))
    found = list(calibrate_visit(visit(), [*good, wrong], tmp_path))
    assert found[-1].runs == (1, 2)


class _Killed(Exception):
    pass


def killed_at(step: int, of: list[CalibrationRun], scratch: Path, backbone: Path) -> list[Calibrated]:
    """What is yielded until the ``step``-th report, at which the process ends."""
    count = itertools.count(1)

    def report(progress: Progress) -> None:
        if next(count) == step:
            raise _Killed

    found = []
    try:
        for each in calibrate_visit(visit(backbone), of, scratch, report_progress=report):
            found.append(each)
    except _Killed:
        pass
    return found


@pytest.fixture(scope="module")
def whole(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Digests of the bundles of two runs, without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return saved(killed_at(0, runs(2), folder / "scratch", backbone), folder)


def saved(found: list[Calibrated], folder: Path) -> list[str]:
    return [each.bundle.save(folder / f"bundle-{i}").digest for i, each in enumerate(found)]


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4])
def test_an_interrupted_calibration_goes_on_and_finds_the_same(
    step: int, backbone: Path, whole: list[str], tmp_path: Path
) -> None:
    """Killed after the first run's decoder, and after the second's."""
    killed_at(step, runs(2), tmp_path / "scratch", backbone)
    rest = saved(killed_at(0, runs(2), tmp_path / "scratch", backbone), tmp_path)
    assert rest == whole[len(whole) - len(rest) :]
    assert len(rest) >= len(whole) - (step - 1) // 2


def random_backbone(folder: Path) -> Path:
    import torch

    from mindsight.decoders.mindeye2 import Layout, MindEye2
    from mindsight.weights.artefact import write_artefact
    from training.pretraining.demo_decoder import shared_weights

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layout = Layout(voxels=(N_TOKENS * DIM,), hidden=16, tokens=N_TOKENS, dim=DIM, n_blocks=1)
        write_artefact(folder, "mindeye2", {}, shared_weights(MindEye2(layout)))
    return folder


@pytest.mark.slow
def test_steps_must_beat_the_decoder_that_ranks(tmp_path: Path) -> None:
    """The same steps as below make the backbone better, but not better than the linear decoder beside it."""
    tuned = replace(visit(random_backbone(tmp_path / "random")), fine_tuning=RECIPE)
    looks: list[Progress] = []
    first = run_of(POOL, 1, n_trials=150, repeats=30, noise=0.3)
    wrong = run_of(POOL, 2, noise=0.3)  # its labels are those of other images, so that the first run's decoder stays
    wrong = replace(wrong, shown=dict(zip(wrong.shown, reversed(wrong.shown.values()), strict=True)))
    (found,) = calibrate_visit(tuned, [first, wrong], tmp_path / "s", report_progress=looks.append)
    assert found.runs == (1,)
    assert found.how.startswith("ranked by a linear decoder: ")
    assert any(each.stage == "fine-tuning" for each in looks)


@pytest.mark.slow
def test_fine_tuning_comes_last_and_goes_on_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a backbone with random weights, which steps make better; nothing else ranks."""
    monkeypatch.setattr(ranked, "MAX_LINEAR", 0)
    tuned = replace(visit(random_backbone(tmp_path / "random")), fine_tuning=RECIPE)
    only = [run_of(POOL, 1, n_trials=150, repeats=30, noise=0.3)]
    looks = 0

    def killed(progress: Progress) -> None:
        nonlocal looks
        looks += progress.stage == "fine-tuning"
        if looks == 2:
            raise _Killed

    before = calibrate_visit(tuned, only, tmp_path / "s", report_progress=killed)
    first = next(before)
    with pytest.raises(_Killed):
        next(before)
    (last,) = calibrate_visit(tuned, only, tmp_path / "s")
    assert "fine-tuned" in last.how
    assert last.gain is not None
    assert last.gain.interval[0] > 0.0
    saved = last.bundle.save(tmp_path / "bundle")
    assert saved.accuracy is not None
    assert hits(saved, only[0]) > hits(first.bundle, only[0])
    assert list(calibrate_visit(tuned, only, tmp_path / "s")) == []


def test_cancelling_ends_it_and_it_may_be_started_again(tmp_path: Path) -> None:
    answers = iter([False, True])
    assert list(calibrate_visit(visit(), runs(2), tmp_path, cancelled=lambda: next(answers))) == []
    assert next(each.runs for each in calibrate_visit(visit(), runs(2), tmp_path)) == (1,)


def test_a_scratch_folder_belongs_to_one_calibration(backbone: Path, tmp_path: Path) -> None:
    list(calibrate_visit(visit(), runs(1), tmp_path))
    with pytest.raises(Conflict, match="another") as raised:
        list(calibrate_visit(replace(visit(), subject="sub-other"), runs(1), tmp_path))
    assert raised.value.code == "calibration.scratch"
    shutil.copytree(backbone, tmp_path / "backbone")
    one = visit(tmp_path / "backbone").digest()
    (tmp_path / "backbone" / "manifest.json").write_text("{}")
    assert visit(tmp_path / "backbone").digest() != one


def bad(change: str) -> Iterator[CalibrationRun]:
    run = run_of(POOL, 1)
    betas = list(run.betas)
    if change == "few":
        yield run_of(POOL, 1, n_trials=8, repeats=2)
    if change == "no repeats":
        yield run_of(POOL, 1, n_trials=40, repeats=0)
    if change == "one label":
        yield replace(run, shown=dict.fromkeys(run.shown, POOL.ids[0]))
    if change == "nan":
        beta_V = betas[-1].beta_V.copy()
        beta_V[3] = np.nan
        yield replace(run, betas=[*betas[:-1], replace(betas[-1], beta_V=beta_V)])
    if change == "constant":
        yield replace(run, betas=[replace(each, beta_V=np.ones(V, np.float32), std_V=np.zeros(V)) for each in betas])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("few", "calibration.trials"),
        ("no repeats", "calibration.repeats"),
        ("one label", "calibration.labels"),
        ("nan", "calibration.betas"),
        ("constant", "calibration.voxels"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(change: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as raised:
        list(calibrate_visit(visit(), bad(change), tmp_path))
    assert raised.value.code == code


def test_too_little_in_the_first_run_waits_for_the_second(tmp_path: Path) -> None:
    first, second = run_of(POOL, 1, n_trials=8, repeats=2), run_of(POOL, 2)
    assert [each.runs for each in calibrate_visit(visit(), [first, second], tmp_path)] == [(1, 2)]


def test_betas_of_another_mask_and_pools_of_another_encoder_are_refused(backbone: Path, tmp_path: Path) -> None:
    narrow = run_of(POOL, 1)
    narrow = replace(narrow, betas=[replace(each, beta_V=each.beta_V[:-1]) for each in narrow.betas])
    with pytest.raises(ModelMismatch) as raised:
        list(calibrate_visit(visit(), [narrow], tmp_path))
    assert raised.value.code == "decoder.voxel_count"
    other = replace(POOL, embeddings=np.asarray(POOL.embeddings)[:, :, :8])
    with pytest.raises(ModelMismatch) as raised:
        list(calibrate_visit(replace(visit(backbone), stimuli=other), [], tmp_path))
    assert raised.value.code == "pool.query_shape"


def test_a_run_that_is_kept_is_read_as_it_was(tmp_path: Path) -> None:
    run = run_of(POOL, 1)
    keep_run(run, tmp_path / "run.safetensors")
    read = read_run(tmp_path / "run.safetensors")
    assert read.shown == run.shown
    assert read.minutes == run.minutes
    for mine, kept in zip(run.betas, read.betas, strict=True):
        assert (mine.stage, mine.trial, mine.n_run) == (kept.stage, kept.trial, kept.n_run)
        np.testing.assert_array_equal(mine.beta_V, kept.beta_V)
