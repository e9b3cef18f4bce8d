"""Train MindEye2 at any size: pretrain the layers that participants share, then fit a new participant to them.

Knows nothing of scanners, images or generators: z-scored betas and the tokens of the images seen come in.

Losses and mixing are the reference's (Scotti et al. 2024): 30 × prior loss, BiMixCo for the first third of the steps,
SoftCLIP after it. Ridge layers differ: the latent is the principal components of the images' tokens, and a
participant's layer is fitted to them in closed form (``decoders.linear.inversion``). The layers above are trained by
gradient on cross-fitted latents, predicted for trials to which the ridge layer was not fitted, so that they learn the
errors of a session rather than those of a fit.

A pretrained model has one ridge layer, which belongs to no participant: it maps an image's own tokens to the shared
latent. A new participant's layer is fitted to that latent.

Axes: K trials, B batch, V voxels, N tokens, D channels, X = N·D, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mindsight.decoders.linear.inversion import invert_encoding
from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout, losses
from mindsight.decoders.mindeye2.schedule import TIMESTEPS
from mindsight.errors import ModelMismatch
from training.pretraining.objective import DROPPED_CONDITIONS, MIXING_CONCENTRATION, PRIOR_WEIGHT, Mixing, contrast

MIXED_SHARE = 0.33


class Seen(NamedTuple):
    """One participant's trials: z-scored betas (K, V) and the tokens (K, N, D) of what was shown."""

    betas_KV: Tensor
    tokens_KND: Tensor


class Pairs(NamedTuple):
    """Training pairs: latents (K, H) that ridge layers predict, and the tokens (K, N, D) of the images."""

    latent_KH: Tensor
    tokens_KND: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """AdamW: number of steps, trials of a step in the contrastive and in the prior's loss, peak one-cycle rate."""

    steps: int
    batch: int
    prior_batch: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Size of the model and both recipes; the defaults are the demo's, minutes on one core.

    A new participant gets no gradient steps by default: on simulated participants they improved nothing
    (``assets/demo/mindeye2/README.md``).

    session_trials : sizes of the calibration sessions that pretraining imitates
    folds : number of parts of a new participant's trials in cross-fitting
    """

    hidden: int = 256
    n_blocks: int = 1
    prior: PriorLayout | None = field(default_factory=lambda: PriorLayout(depth=3, heads=4, dim_head=32, inner=256))
    session_trials: tuple[int, ...] = (150, 300, 600, 1200)
    folds: int = 5
    pretraining: Recipe = field(
        default_factory=lambda: Recipe(steps=5000, batch=128, prior_batch=64, learning_rate=2e-3)
    )
    fine_tuning: Recipe = field(default_factory=lambda: Recipe(steps=0, batch=128, prior_batch=32, learning_rate=1e-4))


def pretrain(participants: Sequence[Seen], config: Config, seed: int) -> MindEye2:
    """Train a shared model on several participants; its only ridge layer reads an image's tokens.

    Sizes in ``session_trials`` of which a participant has less than twice as many trials are left out.
    """
    tokens_KND = torch.cat([seen.tokens_KND for seen in participants])
    layout = Layout(
        voxels=(tokens_KND[0].numel(),),
        hidden=config.hidden,
        tokens=tokens_KND.shape[1],
        dim=tokens_KND.shape[2],
        n_blocks=config.n_blocks,
        prior=config.prior,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MindEye2(layout)
        _start_from_components(model, tokens_KND.flatten(1))
        sessions = [
            predict_rest(model, seen, torch.randperm(len(seen.betas_KV)), n)
            for seen in participants
            for n in config.session_trials
            if 2 * n <= len(seen.betas_KV)
        ]
        _train(model, _joined(sessions), config.pretraining)
    return model.eval()


def finetune(model: MindEye2, betas_KV: Tensor, tokens_KND: Tensor, config: Config, seed: int) -> MindEye2:
    """Fit a new participant to a pretrained model: a ridge layer in closed form, then any gradient steps of the recipe.

    ``model`` is not changed. The result has one ridge layer, subject 0. Raises ModelMismatch for a model that
    ``pretrain`` did not make, which has no ridge layer for images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fitted = MindEye2(replace(model.layout, voxels=(betas_KV.shape[1],)))
        fitted.backbone.load_state_dict(model.backbone.state_dict())
        if fitted.prior is not None and model.prior is not None:
            fitted.prior.load_state_dict(model.prior.state_dict())
        weights_VH, bias_H = _fit(model, Seen(betas_KV, tokens_KND))
        linear = cast(nn.Linear, fitted.ridge.linears[0])
        linear.weight.data, linear.bias.data = weights_VH.T.contiguous(), bias_H
        if config.fine_tuning.steps:
            seen, order = Seen(betas_KV, tokens_KND), torch.randperm(len(betas_KV))
            cuts = [len(order) * fold // config.folds for fold in range(config.folds)]
            kept = len(order) - len(order) // config.folds
            parts = [predict_rest(model, seen, order.roll(-cut), kept) for cut in cuts]
            _train(fitted, _joined(parts), config.fine_tuning)
    return fitted.eval()


@torch.no_grad()
def latents(model: MindEye2, tokens_KND: Tensor) -> Tensor:
    """(K, H) latents that a pretrained model gives to images with these tokens."""
    tokens_KX, width = tokens_KND.flatten(1), model.layout.voxels[0]
    if tokens_KX.shape[1] != width:
        raise ModelMismatch(
            f"expected a pretrained model whose first ridge layer reads the {tokens_KX.shape[1]} numbers of an "
            f"image's tokens, got one that reads {width}; pretrain one with training.pretraining.mindeye.pretrain"
        )
    latent_KH: Tensor = model.ridge(tokens_KX)
    return latent_KH


@torch.no_grad()
def _start_from_components(model: MindEye2, tokens_KX: Tensor) -> None:
    """Make the latent the principal components of the images' tokens, which ``backbone_linear`` maps back to tokens."""
    hidden, mean_X = model.layout.hidden, tokens_KX.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((tokens_KX - mean_X).T))
    basis_XH, scale = vectors[:, -hidden:], values[-hidden:].mean().sqrt()
    model.backbone.backbone_linear.weight.copy_(basis_XH * scale)
    model.backbone.backbone_linear.bias.copy_(mean_X)
    image = cast(nn.Linear, model.ridge.linears[0])
    image.weight.copy_(basis_XH.T / scale)
    image.bias.copy_(-(mean_X @ basis_XH) / scale)


def _fit(model: MindEye2, seen: Seen) -> tuple[Tensor, Tensor]:
    weights_VH, bias_H = invert_encoding(seen.betas_KV.numpy(), latents(model, seen.tokens_KND).numpy())
    return torch.from_numpy(weights_VH), torch.from_numpy(bias_H)


def predict_rest(model: MindEye2, seen: Seen, order_K: Tensor, n: int) -> Pairs:
    """Fit a ridge layer to the first ``n`` trials of an order, and predict the latents of the others."""
    known, rest = order_K[:n], order_K[n:]
    weights_VH, bias_H = _fit(model, Seen(seen.betas_KV[known], seen.tokens_KND[known]))
    return Pairs(seen.betas_KV[rest] @ weights_VH + bias_H, seen.tokens_KND[rest])


def _joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(torch.cat([part.latent_KH for part in parts]), torch.cat([part.tokens_KND for part in parts]))


def _train(model: MindEye2, pairs: Pairs, recipe: Recipe) -> None:
    """Train all layers above the latent."""
    model.train()
    optimizer = torch.optim.AdamW(_groups(model), lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.steps, pct_start=max(0.05, 2 / recipe.steps), final_div_factor=1000
    )
    mixed_steps = int(MIXED_SHARE * recipe.steps)
    temperatures = losses.temperatures(recipe.steps - mixed_steps).tolist()
    for step in range(recipe.steps):
        rows = torch.randint(len(pairs.latent_KH), (recipe.batch,))
        temperature = None if step < mixed_steps else temperatures[step - mixed_steps]
        loss = _loss(model, Pairs(pairs.latent_KH[rows], pairs.tokens_KND[rows]), temperature, recipe.prior_batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _loss(model: MindEye2, batch: Pairs, temperature: float | None, prior_batch: int) -> Tensor:
    """Loss of one batch; without a temperature, latents are mixed and the contrastive loss is BiMixCo.

    Mixing latents is the same as mixing betas: a ridge layer is affine, and the shares sum to one.
    """
    latent_BH, target_BND = batch
    mixing = _mixing(len(latent_BH)) if temperature is None else None
    if mixing is not None:
        latent_BH = losses.mix(latent_BH, *mixing)
    backbone_BND, retrieval_BND, _ = model.tokens_of(latent_BH)
    between = contrast(retrieval_BND, target_BND, mixing, temperature or 0.0)
    if model.prior is None:
        return between
    # the prior's targets are not mixed, as in the reference
    target_BND, backbone_BND = target_BND[:prior_batch], backbone_BND[:prior_batch]
    t_B, noise_BND = torch.randint(TIMESTEPS, (len(target_BND),)), torch.randn_like(target_BND)
    keep_brain_B, keep_image_B = (torch.rand(len(target_BND)) >= DROPPED_CONDITIONS for _ in range(2))
    prior = model.prior.loss(target_BND, backbone_BND, t_B, noise_BND, keep_brain_B, keep_image_B)
    return PRIOR_WEIGHT * prior + between


def _mixing(n: int) -> Mixing:
    """Partners, and each trial's own share: drawn from Beta(0.15, 0.15) for half of them, 1 for the others."""
    share_B = torch.distributions.Beta(MIXING_CONCENTRATION, MIXING_CONCENTRATION).sample((n,))
    return Mixing(torch.randperm(n), torch.where(torch.rand(n) < 0.5, share_B, torch.ones(n)))


def _groups(model: MindEye2) -> list[dict[str, object]]:
    """Weight decay 1e-2 for all but biases; gains and queries decay too, as in the reference. No ridge layer."""
    trained = [(name, p) for name, p in model.named_parameters() if not name.startswith("ridge.")]
    return [
        {"params": [p for name, p in trained if "bias" not in name], "weight_decay": 1e-2},
        {"params": [p for name, p in trained if "bias" in name], "weight_decay": 0.0},
    ]
