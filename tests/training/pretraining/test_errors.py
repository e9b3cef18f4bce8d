"""Errors of decoded latents: learnt from trials, drawn for new images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.pretraining.errors import LatentErrors

WIDTH = 6


def trials(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Decoded and true latents, and the covariance of the errors: a map, an offset and correlated errors."""
    rng = torch.Generator().manual_seed(5)
    true_KH = torch.randn(n, WIDTH, generator=rng) * torch.arange(1.0, WIDTH + 1.0)
    map_HH = 0.8 * torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH, generator=rng)
    factor_HH = 0.3 * torch.randn(WIDTH, WIDTH, generator=rng)
    errors_KH = torch.randn(n, WIDTH, generator=rng) @ factor_HH.T
    return true_KH @ map_HH + 2.0 + errors_KH, true_KH, factor_HH @ factor_HH.T


def test_the_map_and_the_covariance_are_found() -> None:
    decoded_KH, true_KH, covariance_HH = trials(20_000)
    learnt = LatentErrors.learn(decoded_KH, true_KH)
    torch.testing.assert_close(learnt.factor_HH @ learnt.factor_HH.T, covariance_HH, atol=0.05, rtol=0.05)
    drawn_KH = learnt.draw(true_KH, torch.ones(len(true_KH)), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn_KH.mean(0), decoded_KH.mean(0), atol=0.03, rtol=0.0)
    torch.testing.assert_close(torch.cov(drawn_KH.T), torch.cov(decoded_KH.T), atol=0.2, rtol=0.05)


def test_few_trials_do_not_make_the_errors_look_small() -> None:
    """Fitted to 6 numbers, 12 trials leave half of the error in the residuals; leaving one out restores it."""
    _, _, covariance_HH = trials(10)
    found = []
    for start in range(200):
        decoded_KH, true_KH, _ = trials(12 * 200)
        rows = slice(12 * start, 12 * (start + 1))
        factor_HH = LatentErrors.learn(decoded_KH[rows], true_KH[rows]).factor_HH
        found.append((factor_HH @ factor_HH.T).trace())
    assert float(torch.stack(found).median()) >= 0.9 * float(covariance_HH.trace())


def test_the_level_scales_the_errors_alone() -> None:
    decoded_KH, true_KH, _ = trials(200)
    learnt = LatentErrors.learn(decoded_KH, true_KH)
    clean_KH, once_KH, twice_KH = (
        learnt.draw(true_KH, torch.full((200,), level), torch.Generator().manual_seed(1)) for level in (0.0, 1.0, 2.0)
    )
    torch.testing.assert_close(twice_KH - clean_KH, 2.0 * (once_KH - clean_KH))


def test_they_are_kept_in_a_file(tmp_path: Path) -> None:
    decoded_KH, true_KH, _ = trials(50)
    learnt = LatentErrors.learn(decoded_KH, true_KH)
    learnt.save(tmp_path / "errors.safetensors")
    loaded = LatentErrors.load(tmp_path / "errors.safetensors")
    torch.testing.assert_close(loaded.factor_HH, learnt.factor_HH)
    torch.testing.assert_close(loaded.map_HH, learnt.map_HH)


def test_too_few_trials_are_refused() -> None:
    decoded_KH, true_KH, _ = trials(11)
    with pytest.raises(ValueError, match="expected at least 12 trials for 6 numbers, got 11"):
        LatentErrors.learn(decoded_KH, true_KH)
