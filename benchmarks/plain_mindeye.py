"""MindEye2's inference written as its description reads, from the weights alone: the peer that ours is measured beside.

Knows nothing of our modules. Every block runs, also those that have no influence; keys and values are copied for every
head; positions and time are computed again in every step; attention is a product, a softmax and a product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_TIMESTEPS = 100


class PlainMindEye2:
    """state : under the reference's keys, with the low-level head; heads : of the prior."""

    def __init__(self, state: Mapping[str, Tensor], heads: int) -> None:
        self._state, self._heads = state, heads
        self._blocks = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("backbone.mixer_blocks1."))
        layers = [key.split(".") for key in state if ".causal_transformer.layers." in key]
        self._depth = 1 + max(int(parts[parts.index("layers") + 1]) for parts in layers)
        self._dim = len(state["backbone.clip_proj.0.weight"])
        from diffusers.models.autoencoders.vae import Decoder

        import mindsight  # noqa: F401  # lets diffusers be imported beside a torch without CUDA

        with torch.device("meta"):
            self._upsampler = Decoder(
                in_channels=64,
                out_channels=4,
                up_block_types=("UpDecoderBlock2D",) * 3,
                block_out_channels=(32, 64, 128),
                layers_per_block=1,
            ).eval()
        prefix = "backbone.bupsampler."
        upsampling = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
        self._upsampler.load_state_dict(upsampling, assign=True)

    @torch.inference_mode()
    def tokens(self, voxels_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone and retrieval tokens (B, N, D)."""
        backbone = self._linear("backbone.backbone_linear", self._latent(voxels_BV))
        backbone = backbone.reshape(len(voxels_BV), -1, self._dim)
        projected = backbone
        for place in (0, 3, 6):
            normed = F.gelu(self._norm(f"backbone.clip_proj.{place}", projected))
            projected = self._linear(f"backbone.clip_proj.{place + 2}", normed)
        return backbone, projected

    @torch.inference_mode()
    def lowlevel(self, voxels_BV: Tensor) -> Tensor:
        """Latent of the blurry image (B, 4, 28, 28), by way of diffusers' decoder, as in the reference."""
        flat = self._linear("backbone.blin1", self._latent(voxels_BV)).reshape(-1, 64, 7, 7)
        normed = F.group_norm(flat, 1, self._state["backbone.bnorm.weight"], self._state["backbone.bnorm.bias"])
        latent: Tensor = self._upsampler(normed)
        return latent

    def _latent(self, voxels_BV: Tensor) -> Tensor:
        x_BSH = self._linear("ridge.linears.0", voxels_BV)[:, None]
        first, second = x_BSH, x_BSH.transpose(1, 2)
        for b in range(self._blocks):
            x_BSH = self._mixer(f"backbone.mixer_blocks1.{b}", x_BSH) + first
            first = x_BSH
            x_BSH = x_BSH.transpose(1, 2)
            x_BSH = self._mixer(f"backbone.mixer_blocks2.{b}", x_BSH) + second
            second = x_BSH
            x_BSH = x_BSH.transpose(1, 2)
        return x_BSH[:, 0]

    @torch.inference_mode()
    def sample(self, cond_BND: Tensor, steps: int, noises: Iterator[Tensor]) -> Tensor:
        """Image tokens by the stochastic DDIM of the reference."""
        position = np.linspace(0, _TIMESTEPS, _TIMESTEPS + 1) / _TIMESTEPS
        signal = np.cos((position + 0.008) / 1.008 * math.pi / 2) ** 2
        kept = np.cumprod(1 - np.clip(1 - signal[1:] / signal[:-1], 0, 0.999))
        before = np.append(1.0, kept[:-1])
        times = [int(t) for t in np.linspace(-1, _TIMESTEPS, steps + 1)[:-1]][::-1]
        image = next(noises)
        for t, after in pairwise(times):
            clean = self._evaluate(image, torch.full((len(cond_BND),), t, device=cond_BND.device), cond_BND)
            if after < 0:
                return clean
            alpha, alpha_after = before[t], before[after]
            noise = (math.sqrt(1 / kept[t]) * image - clean) / math.sqrt(1 / kept[t] - 1)
            c1 = math.sqrt((1 - alpha / alpha_after) * (1 - alpha_after) / (1 - alpha))
            c2 = math.sqrt(1 - alpha_after - c1**2)
            image = math.sqrt(alpha_after) * clean + c1 * next(noises) + c2 * noise
        raise AssertionError("the last time is before the first")

    def _evaluate(self, image_BND: Tensor, t_B: Tensor, brain_BND: Tensor) -> Tensor:
        net = "diffusion_prior.net"
        half = self._dim // 2
        frequencies = torch.exp(torch.arange(half, device=t_B.device) * (-math.log(10000) / (half - 1)))
        angles = t_B[:, None] * frequencies
        time = torch.cat((angles.sin(), angles.cos()), dim=-1).to(brain_BND.dtype)
        time = F.silu(self._linear(f"{net}.to_time_embeds.0.1.net.0.0", time))
        time = F.silu(self._linear(f"{net}.to_time_embeds.0.1.net.1.0", time))
        time = self._linear(f"{net}.to_time_embeds.0.1.net.2", time)[:, None]
        x_BSD = torch.cat((brain_BND, time, image_BND + self._state[f"{net}.learned_query"]), dim=1)
        transformer = f"{net}.causal_transformer"
        bias_HSK = self._relative_bias(f"{transformer}.rel_pos_bias.relative_attention_bias.weight", x_BSD.shape[1])
        for number in range(self._depth):
            layer = f"{transformer}.layers.{number}"
            x_BSD = x_BSD + self._attention(f"{layer}.0", x_BSD, bias_HSK)
            value, gate = self._linear(f"{layer}.1.1", self._gain(f"{layer}.1.0", x_BSD)).chunk(2, dim=-1)
            x_BSD = x_BSD + self._linear(f"{layer}.1.5", value * F.silu(gate))
        x_BSD = self._gain(f"{transformer}.norm", x_BSD / x_BSD.amax(dim=-1, keepdim=True))
        return self._linear(f"{transformer}.project_out", x_BSD)[:, -image_BND.shape[1] :]

    def _attention(self, name: str, x_BSD: Tensor, bias_HSK: Tensor) -> Tensor:
        batch, length, _ = x_BSD.shape
        x_BSD = self._gain(f"{name}.norm", x_BSD)
        q = self._linear(f"{name}.to_q", x_BSD).reshape(batch, length, self._heads, -1).transpose(1, 2)
        k, v = self._linear(f"{name}.to_kv", x_BSD).chunk(2, dim=-1)
        frequencies = self._state[f"{name}.rotary_emb.freqs"]
        q, k = _rotated(q, frequencies), _rotated(k, frequencies)
        null_k, null_v = self._state[f"{name}.null_kv"]
        k = torch.cat((null_k.expand(batch, 1, -1), k), dim=1)[:, None].repeat(1, self._heads, 1, 1)
        v = torch.cat((null_v.expand(batch, 1, -1), v), dim=1)[:, None].repeat(1, self._heads, 1, 1)
        q, k = 4.0 * F.normalize(q, dim=-1), 4.0 * F.normalize(k, dim=-1)
        weights = torch.softmax(q @ k.transpose(-1, -2) + bias_HSK, dim=-1)
        out = (weights @ v).transpose(1, 2).reshape(batch, length, -1)
        return self._gain(f"{name}.to_out.1", self._linear(f"{name}.to_out.0", out))

    def _relative_bias(self, name: str, length: int) -> Tensor:
        table = self._state[name]
        apart = (torch.arange(length)[:, None] - torch.arange(length + 1)).clamp(min=0)
        exact = len(table) // 2
        far = exact + (torch.log(apart.clamp(min=1) / exact) / math.log(128 / exact) * exact).long()
        bucket = torch.where(apart < exact, apart, far.clamp(max=len(table) - 1))
        return table[bucket.to(table.device)].permute(2, 0, 1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._state[f"{name}.weight"], self._state.get(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _gain(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._state[f"{name}.g"])

    def _mixer(self, name: str, x: Tensor) -> Tensor:
        return self._linear(f"{name}.1.3", F.gelu(self._linear(f"{name}.1.0", self._norm(f"{name}.0", x))))


def _rotated(x: Tensor, frequencies: Tensor) -> Tensor:
    """Interleaved pairs of the first channels turned by position."""
    turned = 2 * len(frequencies)
    angles = (torch.arange(x.shape[-2], device=x.device)[:, None] * frequencies).repeat_interleave(2, dim=-1)
    head, tail = x[..., :turned], x[..., turned:]
    pairs = head.reshape(*head.shape[:-1], -1, 2)
    swapped = torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).reshape(head.shape)
    return torch.cat((head * angles.cos() + swapped * angles.sin(), tail), dim=-1).to(x.dtype)
