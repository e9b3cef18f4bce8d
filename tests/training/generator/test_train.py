"""The training of encoder and generator, at a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.encoders.demo import DemoEncoder, EncoderConfig
from mindsight.generators.unclip.demo import DemoGenerator, GeneratorConfig
from training.generator.train import EncoderTraining, UnetTraining, train

ENCODER = EncoderConfig(image_size=32, token_dim=16, widths=(8, 16, 16))
GENERATOR = GeneratorConfig(image_size=32, n_tokens=4, token_dim=16, widths=(16, 32))


def make(stage: str) -> EncoderTraining | UnetTraining:
    if stage == "encoder":
        return EncoderTraining(ENCODER, batch=16, seed=1)
    torch.manual_seed(1)
    return UnetTraining(DemoEncoder(ENCODER).eval().requires_grad_(False), GENERATOR, batch=16, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["encoder", "unet"])
def test_the_loss_comes_down(stage: str) -> None:
    training = make(stage)
    optimiser = torch.optim.AdamW(training.model.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = training.loss()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize("stage", ["encoder", "unet"])
def test_the_first_loss_follows_from_the_seed(stage: str) -> None:
    assert make(stage).loss().item() == make(stage).loss().item()


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_and_leaves_folders_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("encoder", "unet"):
        checkpoint = tmp_path / f"{stage}.ckpt"
        train(make(stage), 0.002, checkpoint, tmp_path)
        spent_s = torch.load(checkpoint, weights_only=True)["spent_s"]  # on a busy machine more than was asked for
        train(make(stage), (spent_s + 0.1) / 60.0, checkpoint, tmp_path)
    first, second, _, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 0 < first["step"] < second["step"]
    encoder = DemoEncoder.load(tmp_path / "encoder")
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    assert DemoGenerator.load(tmp_path / "generator").generate(encoder.encode(pictures), seed=0).shape == pictures.shape
