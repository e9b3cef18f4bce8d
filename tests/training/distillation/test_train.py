"""A run: the same curve whether or not it was stopped, and however its batches are shared."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.errors import BadRequest, Conflict, MindsightError, ModelMismatch
from support.tolerance import rounding
from training.course.team import Team
from training.distillation.train import Training, run

Make = Callable[..., Training]
DESCRIBED = {"seed": 0}
# Gradients of float32: sums of at most 9 x 96 products, 40 layers there and back, of four evaluations; relative to
# their norm, since single ones are sums that nearly cancel.
CLOSE = rounding(9 * 96 * 40 * 2 * 4)


def ticking() -> Callable[[], float]:
    count = itertools.count()
    return lambda: 60.0 * next(count)


def flat(training: Training) -> Tensor:
    gradients = [weight.grad for weight in training.networks.trained.values()]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def warm(training: Training) -> Training:
    """Factors that change something, so that both halves of each pair have gradients."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in training.networks.trained.values():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return training


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, out = make(), tmp_path / "straight"
    run(straight, out, DESCRIBED, ticking())
    assert "step 4 of 4, loss " in capsys.readouterr().err

    stopped, other = make(), tmp_path / "stopped"
    stopped.advance = stop_at(stopped, 3)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(stopped, other, DESCRIBED, ticking())
    assert [step["step"] for step in curve(other)] == [1, 2, 3]

    resumed = make()
    run(resumed, other, DESCRIBED, ticking())
    assert curve(other) == curve(out)
    assert [step["step"] for step in curve(out)] == [1, 2, 3, 4]
    expected = straight.state()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state().items())
    assert sorted(path.name for path in (other / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]


def stop_at(training: Training, step: int) -> Callable[[], dict[str, float]]:
    advance = training.advance

    def stopping() -> dict[str, float]:
        if training.step == step:
            raise KeyboardInterrupt
        return advance()

    return stopping


def curve(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_batch_has_the_same_gradients_in_parts_and_among_processes(make: Make) -> None:
    whole = warm(make())
    expected_loss, expected = whole.gradients(), flat(whole)

    in_parts = warm(make(micro_batch=1))
    torch.testing.assert_close(in_parts.gradients(), expected_loss, rtol=CLOSE, atol=0.0)
    assert (flat(in_parts) - expected).norm() < CLOSE * expected.norm()

    # each process's own half, before the mean is taken over both (``test_team`` has the real processes)
    first, second = (alone(warm(make(Team(rank, 2)))) for rank in range(2))
    assert (first - second).norm() > 0.1 * expected.norm()
    assert ((first + second) / 2 - expected).norm() < CLOSE * expected.norm()


def alone(training: Training) -> Tensor:
    """A process's gradients without the others'."""
    training.team = Team()
    training.gradients()
    return flat(training)


@pytest.mark.slow
def test_the_loss_comes_down(make: Make) -> None:
    """Of one batch, again and again."""
    training = make(learning_rate=3e-3, steps=100, batch=2)
    losses = []
    for _ in range(16):
        losses.append(training.advance()["loss"])
        training.step = 40  # of the schedule's constant part, and of the samples
    assert losses[-1] < 0.8 * losses[1]


def test_all_weights_can_be_trained(make: Make) -> None:
    training = make(weights="all", batch=2)
    networks = training.networks
    before = {name: weight.detach().clone() for name, weight in networks.trained.items()}
    training.advance()
    merged = networks.merged(training._unclip.unet.state_dict())
    assert merged.keys() == before.keys()
    for name, weight in networks.trained.items():
        # a twentieth of the way, which is what the average of 0.95 follows
        torch.testing.assert_close(merged[name], before[name].lerp(weight.detach(), 0.05), rtol=1e-5, atol=1e-7)
    assert all(not torch.equal(before[name], weight) for name, weight in networks.trained.items())


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_losses_are_finite_in_either_precision(make: Make, precision: str) -> None:
    training = warm(make(precision=precision, batch=6, steps=2))
    figures = [training.advance() for _ in range(2)]
    assert all(math.isfinite(value) for figure in figures for value in figure.values())
    assert {weight.dtype for weight in training.networks.trained.values()} == {torch.float32}


def test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_are_changed(make: Make) -> None:
    training = make()
    name, weight = next(iter(training.networks.trained.items()))
    with torch.no_grad():
        weight.fill_(math.nan)
    others = {other: tensor.detach().clone() for other, tensor in training.networks.trained.items() if other != name}
    with pytest.raises(MindsightError, match=r"finite loss.*lower learning_rate") as raised:
        training.advance()
    assert raised.value.code == "training.diverged"
    assert all(torch.equal(training.networks.trained[other], tensor) for other, tensor in others.items())


@pytest.mark.parametrize(("batch", "micro", "size"), [(4, 3, 1), (4, None, 3), (1, None, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(make: Make, batch: int, micro: int | None, size: int) -> None:
    with pytest.raises(BadRequest, match="choose a multiple"):
        make(Team(0, size), batch=batch, micro_batch=micro)


def test_a_checkpoint_of_another_run_is_refused(make: Make, tmp_path: Path) -> None:
    run(make(steps=2), tmp_path / "run", DESCRIBED, ticking())
    with pytest.raises(Conflict, match="seed 1 in place of 0"):
        run(make(steps=2), tmp_path / "run", {"seed": 1}, ticking())


@pytest.mark.parametrize("file", ["state.safetensors", "run.json", "manifest.json"])
def test_a_checkpoint_that_is_half_written_is_refused_and_says_what_to_do(
    make: Make, tmp_path: Path, file: str
) -> None:
    run(make(steps=2), tmp_path / "run", DESCRIBED, ticking())
    path = tmp_path / "run/checkpoints/step-00000002" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelMismatch, match="remove the folder step-00000002") as raised:
        run(make(steps=2), tmp_path / "run", DESCRIBED, ticking())
    assert "\n" not in str(raised.value)
