"""A run: the same curve whether or not it was stopped, and however its parts are shared."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.errors import BadRequest, Conflict, MindsightError
from support.tolerance import rounding
from support.trials import material_of, small_config, small_data
from training.course.run import Course, run
from training.course.team import Team
from training.pretraining.command import make_model
from training.pretraining.config import ModelTable
from training.pretraining.data import Data
from training.pretraining.export import released_state
from training.pretraining.train import Pretraining

CLOSE = rounding(64 * 16 * 12)  # sums over tokens, layers and trials; relative to the norm of all gradients


@pytest.fixture(scope="module")
def data() -> Data:
    return small_data()


@pytest.fixture
def make(data: Data) -> Callable[..., Pretraining]:
    def make(team: Team | None = None, **changes: Any) -> Pretraining:
        config = small_config(**changes)
        return Pretraining(config, make_model(config, data), material_of(config, data), team or Team())

    return make


Make = Callable[..., Pretraining]


def course(out: Path, training: Pretraining) -> Course:
    config = training.config
    return Course(
        out=out, kind="pretraining", described=config.curve, steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )  # fmt: skip


def ticking() -> Callable[[], float]:
    count = itertools.count()
    return lambda: 60.0 * next(count)


def follow(training: Pretraining, out: Path) -> list[dict[str, Any]]:
    run(training, course(out, training), training.team, ticking())
    return curve(out)


def curve(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def flat(training: Pretraining) -> Tensor:
    return torch.cat([w.grad.flatten() for w in training.trained.values() if w.grad is not None])


def test_a_run_that_was_stopped_ends_with_the_same_bits(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = make(steps=5)
    whole = follow(straight, tmp_path / "straight")
    assert "step 5 of 5, loss " in capsys.readouterr().err
    stopped = make(steps=5)
    advance = stopped.advance

    def stopping() -> dict[str, Any]:
        if stopped.step == 3:
            raise KeyboardInterrupt
        return advance()

    stopped.advance = stopping  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        follow(stopped, tmp_path / "stopped")
    assert [row["step"] for row in curve(tmp_path / "stopped")] == [1, 2, 3]
    resumed = make(steps=5)
    assert follow(resumed, tmp_path / "stopped") == whole
    assert [row["step"] for row in whole] == [1, 2, 3, 4, 5]
    expected = straight.state()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state().items())


def test_held_out_images_are_retrieved_as_it_goes(make: Make, tmp_path: Path) -> None:
    rows = follow(make(steps=4), tmp_path)
    assert [row["step"] for row in rows if "held_out" in row] == [2, 4]
    found = rows[-1]["held_out"]
    assert set(found) == {"all", "s1", "s2"}
    for way in ("images", "brains", "control"):
        figures = found["all"][way]
        assert figures["n"] == found["s1"][way]["n"] + found["s2"][way]["n"]
        low, high = figures["interval"]
        assert low <= figures["value"] <= high
        assert figures["chance"] == pytest.approx(2 / figures["n"], rel=0.2)


@pytest.mark.slow
def test_it_learns_images_that_it_was_not_shown() -> None:
    config = small_config(steps=120, learning_rate=1e-2, batch=40, evaluate_every=120)
    many = small_data(trials=600, images=550, noise=0.3)
    training = Pretraining(config, make_model(config, many), material_of(config, many), Team())
    first, *_, last = [training.advance() for _ in range(120)]
    assert last["loss"] < 0.7 * first["loss"]
    found = last["held_out"]["all"]
    assert found["images"]["interval"][0] > 3 * found["images"]["chance"]
    assert found["brains"]["interval"][0] > 3 * found["brains"]["chance"]
    assert found["control"]["interval"][0] < found["control"]["chance"] < found["images"]["value"]


def test_parts_are_shared_among_processes_without_a_change(make: Make) -> None:
    """Each process's own parts, before the mean is taken over both (``test_team`` has the real processes)."""
    whole = make(batch=24, part=6)
    expected = whole.gradients()["loss"], flat(whole)
    halves = [make(Team(rank, 2), batch=24, part=6) for rank in range(2)]
    sums = []
    for half in halves:
        half.team = _alone(half.team)
        sums.append((half.gradients()["loss"], flat(half)))
    assert (sums[0][1] - sums[1][1]).norm() > 0.1 * expected[1].norm()
    assert ((sums[0][1] + sums[1][1]) / 2 - expected[1]).norm() < CLOSE * expected[1].norm()
    torch.testing.assert_close((sums[0][0] + sums[1][0]) / 2, expected[0], rtol=CLOSE, atol=0.0)


def _alone(team: Team) -> Team:
    """A process that does not wait for the others' gradients."""

    class Alone(Team):
        def average(self, tensors: Any) -> None:
            list(tensors)

    return Alone(team.rank, team.size)


def test_frozen_parts_stay_and_the_rest_is_trained(make: Make) -> None:
    training = make(frozen=["backbone.backbone_linear.", "diffusion_prior."])
    before = {name: weight.clone() for name, weight in training.model.state_dict().items()}
    training.advance()
    after = training.model.state_dict()
    changed = {name.split(".")[0] + "." + name.split(".")[1] for name in before if not before[name].equal(after[name])}
    assert changed == {"ridge.linears", "backbone.clip_proj", "backbone.mixer_blocks2"}
    with pytest.raises(BadRequest, match=r"got 'backbone\.nothing', which none has: there are backbone"):
        make(frozen=["backbone.nothing"])


def test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_are_changed(make: Make) -> None:
    training = make()
    with torch.no_grad():
        training.trained["backbone.backbone_linear.bias"].fill_(math.nan)
    others = {name: weight.clone() for name, weight in training.trained.items() if not name.endswith("linear.bias")}
    with pytest.raises(MindsightError, match=r"finite loss.*lower learning_rate") as raised:
        training.advance()
    assert raised.value.code == "training.diverged"
    assert all(torch.equal(training.trained[name], weight) for name, weight in others.items())


@pytest.mark.parametrize(("batch", "part", "size"), [(12, 8, 1), (12, 6, 4), (12, None, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(make: Make, batch: int, part: int | None, size: int) -> None:
    with pytest.raises(BadRequest, match="choose multiples"):
        make(Team(0, size), batch=batch, part=part)


def test_a_checkpoint_of_another_run_is_refused(make: Make, tmp_path: Path) -> None:
    follow(make(steps=2), tmp_path)
    with pytest.raises(Conflict, match=r"learning_rate 0\.5 in place of 0\.002"):
        follow(make(steps=2, learning_rate=0.5), tmp_path)


@pytest.mark.slow
def test_half_the_memory_learns_as_much(tmp_path: Path) -> None:
    """Also stopped and continued to the same bits; the exported weights are the whole ones."""
    many = small_data(trials=600, images=550, noise=0.3)
    found = {}
    for memory in ("whole", "half"):
        config = small_config(
            steps=40, learning_rate=2e-2, batch=32, evaluate_every=40, memory=memory, precision="bfloat16",
            checkpoint_every=20, model=ModelTable(hidden=64, n_blocks=1, prior=False),
        )  # fmt: skip
        training = Pretraining(config, make_model(config, many), material_of(config, many), Team())
        found[memory] = follow(training, tmp_path / memory)[-1]["held_out"]["all"]["images"]
    assert found["half"]["value"] > found["whole"]["interval"][0] > 3 * found["whole"]["chance"]
    exported = released_state(training.model, training.whole())
    large = "backbone.backbone_linear.weight"
    assert torch.equal(exported[large].bfloat16(), training.model.state_dict()[large])
    assert not torch.equal(exported[large].bfloat16().float(), exported[large])
    resumed = Pretraining(config, make_model(config, many), material_of(config, many), Team())
    shutil.rmtree(tmp_path / "half/checkpoints/step-00000040")
    follow(resumed, tmp_path / "half")
    again = resumed.whole()
    assert all(torch.equal(weight, again[name]) for name, weight in training.whole().items())
