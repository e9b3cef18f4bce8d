"""Train the demo's encoder and generator on procedural scenes: ``python -m training.generator.train encoder|unet``.

Scenes in, two model folders out. The encoder is trained first, with a throw-away decoder that reads its tokens with
noise; then it is frozen, and the U-Net is trained to reconstruct scenes from its tokens. Knows nothing of brains.

Axes: B scenes, N tokens, D channels of a token, H and W pixels or latent cells, C channels.
"""

from __future__ import annotations

import argparse
import json
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mindsight.decoders.mindeye2 import load_mindeye2
from mindsight.encoders.demo import DemoEncoder, EncoderConfig, ResidualBlock, to_grid, to_pixels
from mindsight.generators.sampling.schedule import alphas_cumprod
from mindsight.generators.unclip.demo import DemoGenerator, Denoiser, GeneratorConfig, sample
from mindsight.simulator.scenes import KINDS, Scene, random_scenes, render_batch
from mindsight.weights.artefact import read_artefact
from mindsight.weights.torchfile import read_torch_object
from training.course.schedule import learning_rate
from training.generator.brain import Brain
from training.generator.figures import psnr_db
from training.pretraining.errors import LatentErrors

EMA_DECAY = 0.999
MAX_TOKEN_NOISE = 0.6
ALIKE_TOKEN_NOISE = 0.5
NAMING_WEIGHT = 0.03
CONTINUED_LR = 2e-4
DECODED_SHARE = 0.8  # of a batch, where the U-Net learns to read a brain's tokens
REPORT_EVERY_S = 120.0
HELD_OUT_SEED = 1_000_003  # no training stream starts here


def scene_images(rng: np.random.Generator, n: int, size_px: int) -> NDArray[np.uint8]:
    """New random scenes as (B, H, W, 3) uint8."""
    return render_batch(random_scenes(rng, n), size_px)


def noisy_tokens(tokens_BND: Tensor, generator: torch.Generator, alike: float = 0.0) -> Tensor:
    """Tokens with the errors that decoding from betas makes: most are too small and noisy, a few are clean.

    Errors of ridge regression lie in the directions in which scenes differ. So noise with the covariance of tokens
    (random mixtures of the batch's scenes), of up to ``alike``, is added to white noise.
    """
    n = len(tokens_BND)
    level_B11 = torch.rand(n, 1, 1, generator=generator)
    sigma_B11 = MAX_TOKEN_NOISE * level_B11
    kept_B11 = 1.0 - 0.5 * level_B11 * torch.rand(n, 1, 1, generator=generator)
    noise_BND = torch.randn(tokens_BND.shape, generator=generator)
    noisy_BND = kept_B11 * tokens_BND + sigma_B11 * noise_BND
    if alike:
        mixture_BB = torch.randn(n, n, generator=generator) / n**0.5
        mixed_BND = torch.einsum("bc,cnd->bnd", mixture_BB, tokens_BND - tokens_BND.mean(0))
        noisy_BND = noisy_BND + alike * torch.rand(n, 1, 1, generator=generator).square() * mixed_BND
    return noisy_BND


def edge_weights(pixels_B3HW: Tensor) -> Tensor:
    """(B, 1, H, W) 1 in flat places, up to 4 on contours. Without them flat sky would be most of the loss."""
    high = functional.max_pool2d(pixels_B3HW, 3, 1, 1)
    low = -functional.max_pool2d(-pixels_B3HW, 3, 1, 1)
    return 1.0 + 3.0 * (high - low).amax(1, keepdim=True).sub(0.1).clamp(0.0, 1.0)


def image_loss(drawn_B3HW: Tensor, pixels_B3HW: Tensor) -> Tensor:
    """Squared and absolute error, weighted towards contours."""
    error = drawn_B3HW.float() - pixels_B3HW
    return (edge_weights(pixels_B3HW) * (error.square() + 0.25 * error.abs())).mean()


def fidelity_db(drawn_B3HW: Tensor, pixels_B3HW: Tensor) -> float:
    """``psnr_db`` of images in [-1, 1]; reconstructions are clipped to that range, as when they are saved."""
    return psnr_db(drawn_B3HW.clamp(-1, 1).numpy(force=True), pixels_B3HW.numpy(force=True), peak=2.0)


class Sketcher(nn.Module):
    """The decoder that the encoder is trained with; it is not saved."""

    def __init__(self, config: EncoderConfig, width: int = 160) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(config.token_dim, width, 3, padding=1),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, 192, 3, padding=1),
            nn.PixelShuffle(8),
        )

    def forward(self, tokens_BND: Tensor) -> Tensor:
        return self.layers(to_grid(tokens_BND))  # type: ignore[no-any-return]


class Namer(nn.Module):
    """The second throw-away head: which shape has its centre in a token's square, where in it, and its size.

    A star and a circle differ in few pixels; without this loss, tokens are slow to distinguish them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.edge = config.image_size // 16
        self.layer = nn.Conv2d(config.token_dim, 1 + len(KINDS) + 3, 3, padding=1)

    def loss(self, tokens_BND: Tensor, scenes: list[Scene]) -> Tensor:
        answers = self.layer(to_grid(tokens_BND)).float()
        places = [(b, shape) for b, scene in enumerate(scenes) for shape in scene.shapes]
        rows, columns = ([int(getattr(s, axis) * self.edge) for _, s in places] for axis in "yx")
        present = torch.zeros(len(scenes), self.edge, self.edge)
        present[[b for b, _ in places], rows, columns] = 1.0
        there = answers[[b for b, _ in places], :, rows, columns]  # (shapes, answers)
        kinds = torch.tensor([KINDS.index(s.kind) for _, s in places])
        where = torch.tensor([[s.x * self.edge % 1.0, s.y * self.edge % 1.0, s.size * self.edge] for _, s in places])
        return (
            functional.binary_cross_entropy_with_logits(answers[:, 0], present)
            + functional.cross_entropy(there[:, 1 : 1 + len(KINDS)], kinds)
            + functional.l1_loss(there[:, 1 + len(KINDS) :], where)
        )


class EncoderTraining:
    """Encoder, sketcher and namer, one step at a time."""

    peak_lr = 2e-3

    def __init__(self, config: EncoderConfig, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.batch = batch
        self.encoder = DemoEncoder(config)
        self.namer = Namer(config)
        self.model = nn.ModuleDict({"encoder": self.encoder, "sketcher": Sketcher(config), "namer": self.namer})
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.held_out = to_pixels(scene_images(np.random.default_rng(HELD_OUT_SEED), 128, config.image_size))

    def loss(self) -> Tensor:
        scenes = random_scenes(self.rng, self.batch)
        pixels = to_pixels(render_batch(scenes, self.encoder.image_size))
        with torch.autocast("cpu", torch.bfloat16):
            tokens_BND = self.model["encoder"](pixels.contiguous(memory_format=torch.channels_last))
            tokens_BND = noisy_tokens(tokens_BND, self.noise)
            drawn = self.model["sketcher"](tokens_BND)
            naming_loss = self.namer.loss(tokens_BND, scenes)
        loss: Tensor = image_loss(drawn, pixels) + NAMING_WEIGHT * naming_loss
        return loss

    @torch.inference_mode()
    def figures(self, model: Any) -> dict[str, float]:
        tokens_BND = model["encoder"](self.held_out)
        noise_BND = torch.randn(tokens_BND.shape, generator=torch.Generator().manual_seed(0))
        nearest = torch.cdist((tokens_BND + noise_BND).flatten(1), tokens_BND.flatten(1)).argmin(1)
        return {
            "psnr_clean": fidelity_db(model["sketcher"](tokens_BND), self.held_out),
            "psnr_noise_0.3": fidelity_db(model["sketcher"](tokens_BND + 0.3 * noise_BND), self.held_out),
            "top1_of_128_noise_1": float((nearest == torch.arange(len(nearest))).float().mean()),
        }

    def save(self, model: Any, out: Path) -> None:
        model["encoder"].save(out / "encoder")


class UnetTraining:
    """The U-Net on the tokens of a frozen encoder, one step at a time."""

    peak_lr = 1.5e-3

    def __init__(self, encoder: DemoEncoder, config: GeneratorConfig, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.batch = batch
        self.encoder = encoder
        self.config = config
        self.brain: Brain | None = None
        self.model = Denoiser(config)
        for network in (self.encoder, self.model):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.share_kept = torch.from_numpy(alphas_cumprod()).float()
        self.held_out = to_pixels(scene_images(np.random.default_rng(HELD_OUT_SEED), 64, config.image_size))

    def loss(self) -> Tensor:
        pixels = to_pixels(scene_images(self.rng, self.batch, self.config.image_size))
        clean = functional.pixel_unshuffle(pixels, self.config.fold)
        timestep_B = self._timesteps()
        kept = self.share_kept[timestep_B].view(-1, 1, 1, 1)
        latent = kept.sqrt() * clean + (1.0 - kept).sqrt() * torch.randn(clean.shape, generator=self.noise)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                tokens_BND = self.encoder(pixels.contiguous(memory_format=torch.channels_last))
                tokens_BND = self._given(tokens_BND)
            drawn = self.model(latent.contiguous(memory_format=torch.channels_last), timestep_B, tokens_BND)
        return image_loss(functional.pixel_shuffle(drawn.float(), self.config.fold), pixels)

    def read_brain(self, brain: Brain, out: Path) -> None:
        """Continue from the generator in ``out``, on tokens as a brain gives them."""
        self.model.load_state_dict(read_artefact(out / "generator", "generator").tensors)
        self.brain, self.peak_lr = brain, CONTINUED_LR

    def _given(self, tokens_BND: Tensor) -> Tensor:
        """The tokens that the network is given: with a brain, those that it gives, and a share with plain noise."""
        noisy_BND = noisy_tokens(tokens_BND, self.noise, ALIKE_TOKEN_NOISE)
        if self.brain is None:
            return noisy_BND
        n_decoded = round(DECODED_SHARE * len(tokens_BND))
        return torch.cat([self.brain(tokens_BND[:n_decoded], self.noise), noisy_BND[n_decoded:]])

    def _timesteps(self) -> Tensor:
        """Half of them anywhere, half at the timesteps that sampling in four steps uses."""
        anywhere = torch.randint(0, 1000, (self.batch,), generator=self.noise)
        looked_at = 250 * torch.randint(1, 5, (self.batch,), generator=self.noise) - 1
        return torch.where(torch.rand(self.batch, generator=self.noise) < 0.5, anywhere, looked_at)

    @torch.inference_mode()
    def figures(self, model: nn.Module) -> dict[str, float]:
        tokens_BND = self.encoder(self.held_out)
        torch.manual_seed(0)
        noise_BND = torch.randn(tokens_BND.shape)
        noise = torch.randn(len(tokens_BND), *self.config.latent_shape)
        noisy_BND = tokens_BND + 0.3 * noise_BND
        cases = {"nfe_1": (tokens_BND, 1), "nfe_2": (tokens_BND, 2), "nfe_4": (tokens_BND, 4)}
        cases |= {"nfe_4_noise_0.3": (noisy_BND, 4)}
        if self.brain is not None:
            cases |= {"nfe_4_brain": (self.brain(tokens_BND, torch.Generator().manual_seed(0)), 4)}
        return {
            f"psnr_{name}": fidelity_db(
                functional.pixel_shuffle(sample(model, given_BND, noise, steps), self.config.fold), self.held_out
            )
            for name, (given_BND, steps) in cases.items()
        }

    def save(self, model: Any, out: Path) -> None:
        DemoGenerator(model).save(out / "generator")


class Ema:
    """Exponential moving average of a model's weights, which reconstructs better than the weights of any one step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(EMA_DECAY, (1 + self.steps) / (10 + self.steps))
        for slow, fast in zip(self.model.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - decay)


def train(training: EncoderTraining | UnetTraining, minutes: float, checkpoint: Path, out: Path) -> None:
    """Train for ``minutes`` of wall time in all, resuming from ``checkpoint`` if it exists; save the average."""
    model: Any = training.model
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training.peak_lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    ema = Ema(model)
    spent_s = 0.0
    if checkpoint.exists():
        saved = read_torch_object(checkpoint)
        model.load_state_dict(saved["model"])
        ema.model.load_state_dict(saved["ema"])
        optimiser.load_state_dict(saved["optimiser"])
        ema.steps, spent_s = saved["steps"], saved["spent_s"]
        training.rng = np.random.default_rng([training.seed, ema.steps])
        training.noise.manual_seed(training.seed + ema.steps)
    losses: list[float] = []
    last = reported_at = time.monotonic()
    while spent_s < 60.0 * minutes:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(training.peak_lr, spent_s / (60.0 * minutes))
        loss = training.loss()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        ema.follow(model)
        losses.append(loss.item())
        now = time.monotonic()
        spent_s, last = spent_s + now - last, now
        if now - reported_at > REPORT_EVERY_S or spent_s >= 60.0 * minutes:
            reported_at = now
            state = {"model": model.state_dict(), "ema": ema.model.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save(state | {"steps": ema.steps, "spent_s": spent_s}, checkpoint)
            training.save(ema.model, out)
            line = {"step": ema.steps, "minutes": round(spent_s / 60, 1), "loss": round(float(np.mean(losses)), 5)}
            print(json.dumps(line | {k: round(v, 3) for k, v in training.figures(ema.model).items()}), flush=True)
            losses = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("encoder", "unet"))
    parser.add_argument("--out", type=Path, required=True, help="folder of both models")
    parser.add_argument("--minutes", type=float, required=True, help="total wall time of training")
    parser.add_argument("--checkpoint", type=Path, required=True, help="file to save to and to resume from")
    parser.add_argument(
        "--errors", type=Path, help="continue the U-Net that is there, on tokens with these errors of decoding"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    training: EncoderTraining | UnetTraining
    if arguments.stage == "encoder":
        training = EncoderTraining(EncoderConfig(), arguments.batch, arguments.seed)
    else:
        encoder = DemoEncoder.load(arguments.out / "encoder")
        config = GeneratorConfig(image_size=encoder.image_size, encoder_digest=encoder.digest)
        training = UnetTraining(encoder, config, arguments.batch, arguments.seed)
        if arguments.errors:
            shared = load_mindeye2(arguments.out / "mindeye2" / "mindeye2.safetensors")
            training.read_brain(Brain(shared, LatentErrors.load(arguments.errors)), arguments.out)
    train(training, arguments.minutes, arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
