"""The same numbers as the original classes gave, at small size and random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mindsight.generators.unclip import Unclip, plan
from mindsight.generators.unclip.sdxl.conditioner import size_vector
from mindsight.generators.unclip.sdxl.pipeline import Inputs
from mindsight.generators.unclip.sdxl.vae import SCALING, LatentDecoder, encode
from support.tolerance import network, rounding

UNET = network(9 * 256, 40)  # its widest convolution; blocks that follow each other, longest way through
VAE = network(9 * 128, 30)


@pytest.fixture(scope="module")
def noise(recorded: dict[str, Any]) -> Tensor:
    """The reference starts from unit noise plus offset noise at the first sigma."""
    first_sigma = float(plan("reference").sigmas[0])
    offset: Tensor = recorded["offset"].view(-1, 1, 1, 1)
    return recorded["noise"] + 0.04 * offset + recorded["z"] / first_sigma


def test_noise_levels(recorded: dict[str, Any]) -> None:
    table = plan("reference")
    assert table.timesteps.tolist() == recorded["timesteps"]
    np.testing.assert_allclose(table.sigmas, recorded["sigmas"], rtol=rounding(1))


def test_unet(unclip: Unclip, recorded: dict[str, Any]) -> None:
    tokens, vector = (torch.cat([recorded["uncond"][name], recorded["cond"][name]]) for name in ("crossattn", "vector"))
    predicted = unclip.denoiser(recorded["unet_x"], recorded["unet_t"].float(), unclip.keys_values(tokens), vector)
    of_order_one = recorded["unet_out"].std()
    torch.testing.assert_close(predicted / of_order_one, recorded["unet_out"] / of_order_one, **UNET)


def test_autoencoder_both_ways(unclip: Unclip, recorded: dict[str, Any]) -> None:
    decoded = LatentDecoder(unclip.vae)(SCALING * recorded["z_latent"])
    torch.testing.assert_close(decoded, recorded["vae_dec"], **VAE)
    torch.testing.assert_close(encode(unclip.vae, recorded["image"]) / SCALING, recorded["vae_mean"], **VAE)


def test_trajectory(unclip: Unclip, recorded: dict[str, Any], noise: Tensor) -> None:
    cond, uncond = recorded["cond"], recorded["uncond"]
    inputs = Inputs(noise, cond["crossattn"], cond["vector"], uncond["crossattn"])
    latent = unclip.latents(plan("reference"), inputs)
    assert recorded["sampler_out"].abs().max() > 10.0
    assert (latent - recorded["sampler_out"]).abs().max() <= 1e-4


def test_the_image_of_a_trajectory(unclip: Unclip, recorded: dict[str, Any], noise: Tensor) -> None:
    tokens, uncond, vector = recorded["cond"]["crossattn"], recorded["uncond"]["crossattn"], recorded["cond"]["vector"]
    shown = unclip.sample(tokens, "reference", noise=noise, uncond=uncond, vector=vector, steps=2)
    latent = unclip.latents(plan("reference", 2), Inputs(noise, tokens, vector, uncond))
    expected = (unclip.vae.decode(latent / SCALING).sample * 0.8 + 0.2).clamp(0.0, 1.0)
    assert 0.0 < expected.mean() < 1.0
    torch.testing.assert_close(shown, expected, **VAE)


def test_vector_of_sizes() -> None:
    vector = size_vector(768, 768, 1024)
    close = 1024 * 2.0**-23  # sines of angles up to 1,024 rad, each of which is rounded to single precision
    assert vector[:3].tolist() == pytest.approx([0.11912, -0.03300, 0.57590], abs=close)
    assert vector[512:640].tolist() == [1.0] * 128
    assert vector[640:768].tolist() == [0.0] * 128
    assert float(vector.sum()) == pytest.approx(352.0327, abs=0.1 * 1024 * close)  # whose errors partly cancel
