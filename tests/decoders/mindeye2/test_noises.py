"""Noise that is drawn before its trial is the noise that the trial would have drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.decoders.base import PriorOptions
from mindsight.decoders.mindeye2.decoder import MindEye2Decoder, MindEye2Weights
from mindsight.decoders.mindeye2.noises import KEPT
from support.families import N_VOXELS, SPACE, write_mindeye2

OPTIONS = PriorOptions(steps=5, draws=3)


@pytest.fixture
def decoder(tmp_path: Path) -> MindEye2Decoder:
    write_mindeye2(tmp_path / "weights.safetensors", prior=True)
    return MindEye2Weights(tmp_path / "weights.safetensors").decoder(SPACE)


def tokens(decoder: MindEye2Decoder, seed: int) -> np.ndarray:
    condition = decoder(np.ones((1, N_VOXELS), np.float32))
    refined: np.ndarray = decoder.refine(condition, seed, OPTIONS).features[SPACE.name]
    return refined


def test_an_expected_trial_draws_nothing(decoder: MindEye2Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seven, eight = tokens(decoder, 7), tokens(decoder, 8)
    for seed in range(KEPT):  # these take the place of the two
        decoder.expect(seed, OPTIONS)
    decoder.expect(7, OPTIONS)
    monkeypatch.delattr(torch, "randn")
    np.testing.assert_array_equal(tokens(decoder, 7), seven)
    np.testing.assert_array_equal(tokens(decoder, 7), seven)  # a later stage of the same trial
    with pytest.raises(AttributeError):
        tokens(decoder, 8)
    monkeypatch.undo()
    np.testing.assert_array_equal(tokens(decoder, 8), eight)


def test_without_a_prior_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mindeye2(tmp_path / "weights.safetensors", prior=False)
    decoder = MindEye2Weights(tmp_path / "weights.safetensors").decoder(SPACE)
    monkeypatch.delattr(torch, "randn")
    decoder.expect(7, OPTIONS)
    assert tokens(decoder, 7).shape == (1, *SPACE.shape)
