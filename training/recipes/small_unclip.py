"""A small unCLIP of the released layout, as a teacher: ``python -m training.recipes.small_unclip OUT``.

Simulated scenes of 32 pixels, the demo encoder's tokens, an autoencoder and a U-Net of SDXL's classes at a thousandth
of their size, trained for minutes on two CPU cores. The U-Net predicts noise and is sampled with guidance, as the
released one is, so that there is something to distil. OUT then holds ``scenes.h5``, their ``pool`` and ``unclip/``.

Letters: K images, B batch, C channels of a latent, H and W, N tokens of D numbers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mindsight import assets
from mindsight.encoders.demo import DemoEncoder
from mindsight.encoders.sources import as_uint8
from mindsight.generators.unclip.sdxl.conditioner import size_vector
from mindsight.generators.unclip.sdxl.convert import write_unclip
from mindsight.generators.unclip.sdxl.pipeline import Unclip
from mindsight.generators.unclip.sdxl.released import Released
from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from mindsight.generators.unclip.sdxl.vae import SCALING, VaeLayout, build_vae
from mindsight.retrieval.from_files import build_from_files, open_images
from mindsight.simulator.scenes import random_scenes, render_batch
from training.course.metrics import Progress
from training.course.schedule import learning_rate
from training.distillation.consistency import Levels
from training.distillation.examples import latents_of
from training.generator.train import Ema, edge_weights

SIZE_PX = 32
CHANNELS = 16
VAE = VaeLayout(widths=(32, 32, 64, 64), resnets=1, channels=CHANNELS)
UNET = UnetLayout(
    widths=(64, 128), depths=(1, 1), head_dim=32, resnets=1, token_dim=64, vector_dim=64, channels=CHANNELS
)
WITHOUT_TOKENS = 0.1  # share of a batch that is given noise for tokens, from which guidance leads away
SCENES_SEED = 5_000_003


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """
    scenes : of which neither network is trained on the last ``held_out``
    vae_steps, unet_steps : of each network's training
    vae_batch, unet_batch : scenes of a step
    """

    scenes: int = 2500
    held_out: int = 100
    vae_steps: int = 2500
    unet_steps: int = 1000
    vae_batch: int = 4
    unet_batch: int = 16
    seed: int = 0


def make(out: Path, recipe: Recipe) -> None:
    """Write the three parts into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    encoder = DemoEncoder.load(assets.ENCODER)
    with h5py.File(out / "scenes.h5", "w") as file:
        scenes = random_scenes(np.random.default_rng(SCENES_SEED), recipe.scenes)
        file["images"] = render_batch(scenes, encoder.image_size)
    pool = build_from_files(out / "scenes.h5", out / "pool")
    images = open_images(out / "scenes.h5", SIZE_PX)
    trained = np.stack([as_uint8(images.read(row)) for row in range(recipe.scenes - recipe.held_out)])
    vae = train_vae(torch.from_numpy(trained), recipe)
    untrained = Unclip(build_unet(UNET), vae, UNET, SIZE_PX)
    latents_KCHW = torch.cat([latents_of(untrained, trained[i : i + 64]) for i in range(0, len(trained), 64)])
    tokens_KND = torch.from_numpy(pool.embeddings[: len(trained)].astype(np.float32))
    unet = train_unet(latents_KCHW, tokens_KND, recipe)
    parts = Released(
        unet_layout=UNET, unet=unet.state_dict(), vae_layout=VAE, vae=vae.state_dict(), size_px=SIZE_PX, tower={}
    )
    write_unclip(out / "unclip", parts, torch.float16, space=encoder.space, size_px=SIZE_PX)


def train_vae(images_KHW3: Tensor, recipe: Recipe) -> Any:
    """An autoencoder whose latents, as the U-Net takes them, have mean 0 and standard deviation 1 in each channel."""
    torch.manual_seed(recipe.seed)
    vae = build_vae(VAE)
    vae.to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(recipe.seed)

    def loss() -> Tensor:
        rows = torch.randint(len(images_KHW3), (recipe.vae_batch,), generator=rng)
        pixels = _pixels(images_KHW3[rows])
        found = vae.encode(pixels).latent_dist.mean
        drawn = vae.decode(found + 0.05 * torch.randn(found.shape, generator=rng), return_dict=False)[0]
        error = drawn - pixels
        fit = (edge_weights(pixels) * (error.square() + 0.25 * error.abs())).mean()
        result: Tensor = fit + 1e-4 * found.square().mean()
        return result

    averaged = _train(vae, loss, recipe.vae_steps, 1.5e-3)
    _normalise(averaged, images_KHW3[:512])
    return averaged


@torch.no_grad()
def _normalise(vae: Any, images_KHW3: Tensor) -> None:
    """Change the two layers around the latent: it is shifted and scaled, and what is decoded of it stays the same."""
    found = vae.encode(_pixels(images_KHW3)).latent_dist.mean
    mean_C, scale_C = found.mean((0, 2, 3)), found.std((0, 2, 3)) * SCALING
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean_C
    after.weight *= scale_C[None, :, None, None]
    before.bias[:CHANNELS] = (before.bias[:CHANNELS] - mean_C) / scale_C
    before.weight[:CHANNELS] /= scale_C[:, None, None, None]


def train_unet(latents_KCHW: Tensor, tokens_KND: Tensor, recipe: Recipe) -> Any:
    """A U-Net that predicts the noise in latents."""
    torch.manual_seed(recipe.seed)
    unet = build_unet(UNET)
    levels = Levels.on("cpu")
    vector_BC = size_vector(SIZE_PX, SIZE_PX, UNET.vector_dim).expand(recipe.unet_batch, -1)
    rng = torch.Generator().manual_seed(recipe.seed)

    def loss() -> Tensor:
        rows = torch.randint(len(latents_KCHW), (recipe.unet_batch,), generator=rng)
        tokens, clean = tokens_KND[rows], latents_KCHW[rows]
        without = torch.rand(recipe.unet_batch, 1, 1, generator=rng) < WITHOUT_TOKENS
        tokens = torch.where(without, torch.randn(tokens.shape, generator=rng), tokens)
        noise = torch.randn(clean.shape, generator=rng)
        timestep = torch.randint(len(levels.alpha_T), (recipe.unet_batch,), generator=rng)
        predicted = unet(levels.noisy(clean, noise, timestep), timestep, tokens, vector_BC, return_dict=False)[0]
        return functional.mse_loss(predicted, noise)

    return _train(unet, loss, recipe.unet_steps, 1e-3)


def _train(network: nn.Module, loss: Callable[[], Tensor], steps: int, peak: float) -> Any:
    """The average of the network's weights after these steps."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    ema = Ema(network)
    progress = Progress(0, steps, time.monotonic())
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(peak, step / steps)
        of = loss()
        optimiser.zero_grad()
        of.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        ema.follow(network)
        progress(step + 1, of.item(), time.monotonic())
    return ema.model


def _pixels(images_BHW3: Tensor) -> Tensor:
    """As the decoder gives what is shown as these images (``sdxl.pipeline``)."""
    shown = images_BHW3.permute(0, 3, 1, 2).float().div(255.0)
    return ((shown - 0.2) / 0.8).contiguous(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, help="folder to make")
    make(parser.parse_args().out, Recipe())


if __name__ == "__main__":
    main()
