"""MindEye2's training step written as its description reads (Scotti et al. 2024): the peer of ``bench_training.py``.

From the same weights and draws as ours. Every mixer block runs and is trained; voxels of each subject are mixed before
its ridge layer; the low-level map is made for each of its heads; the prior's keys and values are copied for every head,
and attention is a product, a softmax and a product; the optimiser is torch's AdamW as it comes. Dropout is left out on
both sides when the losses are compared, not when they are timed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from plain_mindeye import PlainMindEye2
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.decoders.mindeye2.schedule import alphas_cumprod
from training.pretraining.batches import Part
from training.pretraining.objective import Draws


class PlainTraining:
    """weights : under the reference's keys, which are changed; heads : of the prior; dropout : of the mixer blocks"""

    def __init__(self, weights: dict[str, Tensor], heads: int, dropout: float = 0.15) -> None:
        self._weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self.trained = [w.requires_grad_() for name, w in self._weights.items() if "rotary_emb" not in name]
        self._forward, self._dropout = PlainMindEye2(self._weights, heads), dropout
        self._projector = {i: self._weights[f"backbone.b_maps_projector.{i}.weight"] for i in (0, 1, 3, 4, 6)}
        decayed = [w for n, w in self._weights.items() if w.requires_grad and ("bias" not in n or "ridge" in n)]
        others = [w for n, w in self._weights.items() if w.requires_grad and "bias" in n and "ridge" not in n]
        groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=1e-4)

    def step(self, part: Part, draws: Draws, temperature: float) -> Tensor:
        self._optimiser.zero_grad()
        loss = self.loss(part, draws, temperature)
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def loss(self, part: Part, draws: Draws, temperature: float) -> Tensor:
        voxels, target = list(part.betas), part.lowlevel
        assert target is not None
        blur = target.latent_B4HW
        if draws.mixing is not None:
            perm, share = draws.mixing
            voxels = self._mixed_voxels(voxels, perm, share)
            blur = _mix(blur, perm, share)
        latent = torch.cat([self._forward._linear(f"ridge.linears.{i}", v) for i, v in enumerate(voxels)])
        latent = self._mixers(latent)
        backbone = self._forward._linear("backbone.backbone_linear", latent)
        backbone = backbone.reshape(len(latent), -1, self._forward._dim)
        projected = backbone
        for place in (0, 3, 6):
            normed = F.gelu(self._forward._norm(f"backbone.clip_proj.{place}", projected))
            projected = self._forward._linear(f"backbone.clip_proj.{place + 2}", normed)
        contrast = self._contrast(projected, part.tokens_BND, draws, temperature)
        blurred = (self._blurred(latent) - blur).abs().mean()
        maps = _soft(*(_rows(each) for each in (self._maps(latent), target.teacher_BPC, target.augmented_BPC)))
        return 30 * self._prior(part.tokens_BND, backbone, draws) + contrast + 0.5 * (blurred + 0.1 * maps)

    def _mixed_voxels(self, voxels: Sequence[Tensor], perm: Tensor, share: Tensor) -> list[Tensor]:
        mixed, start = [], 0
        for own in voxels:
            here = slice(start, start + len(own))
            mixed.append(_mix(own, perm[here] - start, share[here]))
            start += len(own)
        return mixed

    def _mixers(self, latent: Tensor) -> Tensor:
        x = latent[:, None]
        first, second = x, x.transpose(1, 2)
        for b in range(self._forward._blocks):
            x = self._mixer(f"backbone.mixer_blocks1.{b}", x) + first
            first, x = x, x.transpose(1, 2)
            x = self._mixer(f"backbone.mixer_blocks2.{b}", x) + second
            second, x = x, x.transpose(1, 2)
        return x[:, 0]

    def _mixer(self, name: str, x: Tensor) -> Tensor:
        inner = F.gelu(self._forward._linear(f"{name}.1.0", self._forward._norm(f"{name}.0", x)))
        return self._forward._linear(f"{name}.1.3", F.dropout(inner, self._dropout, self._dropout > 0))

    def _map(self, latent: Tensor) -> Tensor:
        flat = self._forward._linear("backbone.blin1", latent).reshape(-1, 64, 7, 7)
        return F.group_norm(flat, 1, self._weights["backbone.bnorm.weight"], self._weights["backbone.bnorm.bias"])

    def _blurred(self, latent: Tensor) -> Tensor:
        names = {n: w for n, w in self._weights.items() if n.startswith("backbone.bupsampler.")}
        given = {name.removeprefix("backbone.bupsampler."): weight for name, weight in names.items()}
        blurred: Tensor = torch.func.functional_call(self._forward._upsampler, given, (self._map(latent),))
        return blurred

    def _maps(self, latent: Tensor) -> Tensor:
        maps = self._map(latent)
        for conv, norm in ((0, 1), (3, 4)):
            maps = F.conv2d(maps, self._projector[conv])
            bias = self._weights[f"backbone.b_maps_projector.{norm}.bias"]
            maps = F.relu(F.group_norm(maps, 1, self._projector[norm], bias))
        maps = F.conv2d(maps, self._projector[6], self._weights["backbone.b_maps_projector.6.bias"])
        return maps.flatten(2).transpose(1, 2)

    def _contrast(self, found: Tensor, sought: Tensor, draws: Draws, temperature: float) -> Tensor:
        found, sought = (F.normalize(each.flatten(1), dim=-1) for each in (found, sought))
        if draws.mixing is None:
            return _soft(found, sought, sought, temperature, same=True)
        perm, share = draws.mixing
        labels = torch.diag(share)
        labels[torch.arange(len(perm)), perm] = 1 - share
        logits = found @ sought.T / 0.006
        both = [(logits, labels), (logits.T, labels.T)]
        return sum(-(x.log_softmax(-1) * p).sum(-1).mean() for x, p in both) / 2  # type: ignore[return-value]

    def _prior(self, target: Tensor, brain: Tensor, draws: Draws) -> Tensor:
        kept = torch.from_numpy(alphas_cumprod()).float()[draws.t_B][:, None, None]
        image = kept.sqrt() * target + (1 - kept).sqrt() * draws.noise_BND
        net = "diffusion_prior.net"
        brain = torch.where(draws.keep_brain_B[:, None, None], brain, self._weights[f"{net}.null_brain_embeds"])
        image = torch.where(draws.keep_image_B[:, None, None], image, self._weights[f"{net}.null_image_embed"])
        return F.mse_loss(self._forward._evaluate(image, draws.t_B, brain), target)


def _mix(rows: Tensor, perm: Tensor, share: Tensor) -> Tensor:
    own = share.view(-1, *[1] * (rows.ndim - 1))
    return own * rows + (1 - own) * rows[perm]


def _rows(features: Tensor) -> Tensor:
    return F.normalize(features.flatten(0, 1), dim=-1)


def _soft(student: Tensor, teacher: Tensor, other: Tensor, temperature: float = 0.2, same: bool = False) -> Tensor:
    """Labels are the teacher's similarities; the same both ways for tokens, transposed for maps."""
    logits, labels = student @ other.T / temperature, teacher @ other.T / temperature
    back = labels.softmax(-1) if same else labels.T.softmax(-1)
    forth = -(logits.log_softmax(-1) * labels.softmax(-1)).sum(-1).mean()
    return (forth - (logits.T.log_softmax(-1) * back).sum(-1).mean()) / 2


def own_weights(model: nn.Module) -> dict[str, Tensor]:
    """Of a model of ours, under the reference's keys."""
    return dict(model.state_dict())
