"""The diffusion prior's transformer: cosine attention with one shared key-value head, rotary and relative positions.

Knows nothing of diffusion: tokens in, tokens out. Module names: DALLE2-pytorch's, as in the reference.

Axes: B batch, S sequence, R the last rows of S that are computed, H heads, E width of a head, D channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_BUCKETS, _MAX_DISTANCE = 32, 128
COSINE_SCALE = 16.0


class Positions(NamedTuple):
    """Positions as attention uses them: the same for every layer, step and trial, and so computed once.

    cos_SE, sin_SE : rotation by position; 1 and 0 beyond the rotated channels
    bias_SHK : added to the logits; key 0 is the null key, so key of token t is t + 1
    """

    cos_SE: Tensor
    sin_SE: Tensor
    bias_SHK: Tensor


class Gain(nn.Module):
    """LayerNorm with a gain and no bias; epsilon 1e-5 in float32, 1e-3 in half precision, as in the reference."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.g.shape, self.g, None, gain_epsilon(x.dtype))


class RotaryFrequencies(nn.Module):
    """Holds the frequencies that each layer of a checkpoint repeats; frozen, recomputable."""

    freqs: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs", rotary_frequencies(dim))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Gain(dim)
        self.null_kv = nn.Parameter(torch.randn(2, dim_head))
        self.rotary_emb = RotaryFrequencies(rotary_width(dim_head))
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False), Gain(dim))

    def forward(self, x_BSD: Tensor, at: Positions, rows: int) -> Tensor:
        """The attention of the last ``rows`` tokens to all tokens: (B, R, D), without the residual.

        All heads share one key and one value, so they are further query rows of one head: no copy of K or V is made.
        """
        batch, width = len(x_BSD), len(self.null_kv[0])
        x_BSD = self.norm(x_BSD)
        k_BSE, v_BSE = self.to_kv(x_BSD).chunk(2, dim=-1)
        null_k_B1E, null_v_B1E = self.null_kv.expand(batch, 2, width).chunk(2, dim=1)
        k_BKE = F.normalize(torch.cat((null_k_B1E, rotate(k_BSE, at.cos_SE, at.sin_SE)), dim=1), dim=-1)
        v_BKE = torch.cat((null_v_B1E, v_BSE), dim=1)
        q_BRHE = self.to_q(x_BSD[:, -rows:]).unflatten(-1, (self.heads, width))
        q_BRHE = F.normalize(rotate(q_BRHE, at.cos_SE[-rows:, None], at.sin_SE[-rows:, None]), dim=-1)
        taken_BRE = F.scaled_dot_product_attention(
            q_BRHE.reshape(batch, 1, -1, width),
            k_BKE[:, None],
            v_BKE[:, None],
            attn_mask=at.bias_SHK[-rows:].flatten(0, 1),
            scale=COSINE_SCALE,
        )
        out: Tensor = self.to_out(taken_BRE.reshape(batch, rows, -1))
        return out


class SwiGLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * F.silu(gate)


class Layer(nn.ModuleList):
    """Attention, then the feed-forward, each added to its input."""

    def __init__(self, dim: int, heads: int, dim_head: int, inner: int) -> None:
        widen, narrow = nn.Linear(dim, 2 * inner, bias=False), nn.Linear(inner, dim, bias=False)
        feed_forward = nn.Sequential(Gain(dim), widen, SwiGLU(), nn.Identity(), nn.Identity(), narrow)
        super().__init__((Attention(dim, heads, dim_head), feed_forward))

    def forward(self, x_BSD: Tensor, at: Positions, rows: int) -> Tensor:
        attention, feed_forward = self
        x_BRD: Tensor = x_BSD[:, -rows:] + attention(x_BSD, at, rows)
        fed_BRD: Tensor = feed_forward(x_BRD)
        return x_BRD + fed_BRD


class RelativeBias(nn.Module):
    """One learned number per head and bucket of distance, shared by all layers."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(_BUCKETS, heads)

    def forward(self, length: int) -> Tensor:
        """(S, H, K) to be added to the logits."""
        table = self.relative_attention_bias
        bias_SKH: Tensor = table(relative_buckets(length).to(table.weight.device))
        return bias_SKH.transpose(1, 2)


class Transformer(nn.Module):
    """Pre-norm layers, then the "stable" final norm and a projection."""

    def __init__(self, dim: int, depth: int, heads: int, dim_head: int, inner: int) -> None:
        super().__init__()
        self._dim_head = dim_head
        self.recomputes = False  # in training: layers' activations are computed again on the way back, not kept
        self.rel_pos_bias = RelativeBias(heads)
        self.layers = nn.ModuleList(Layer(dim, heads, dim_head, inner) for _ in range(depth))
        self.norm = Gain(dim)
        self.project_out = nn.Linear(dim, dim, bias=False)

    def positions(self, length: int) -> Positions:
        """Rotation and relative bias for sequences of ``length`` tokens."""
        freqs = self.layers[0].get_buffer("0.rotary_emb.freqs")
        cos_SE, sin_SE = rotation(freqs, length, self._dim_head)
        return Positions(cos_SE, sin_SE, self.rel_pos_bias(length))

    def forward(self, x_BSD: Tensor, at: Positions, rows: int) -> Tensor:
        """Outputs (B, R, D) of the last ``rows`` tokens; the last layer computes no others."""
        *body, last = self.layers
        for layer in body:
            x_BSD = self._run(layer, x_BSD, at, x_BSD.shape[1])
        x_BRD = self._run(last, x_BSD, at, rows)
        # the reference divides by the maximum, not by the maximum of absolute values
        x_BRD = self.norm(x_BRD / x_BRD.detach().amax(dim=-1, keepdim=True))
        out: Tensor = self.project_out(x_BRD)
        return out

    def _run(self, layer: nn.Module, x_BSD: Tensor, at: Positions, rows: int) -> Tensor:
        if self.recomputes and torch.is_grad_enabled():
            again: Tensor = checkpoint(layer, x_BSD, at, rows, use_reentrant=False)
            return again
        out: Tensor = layer(x_BSD, at, rows)
        return out


def gain_epsilon(dtype: torch.dtype) -> float:
    return 1e-5 if dtype == torch.float32 else 1e-3


def rotary_width(dim_head: int) -> int:
    """How many of a head's channels are rotated."""
    return min(32, dim_head)


def rotary_frequencies(width: int) -> Tensor:
    """(width / 2,) radians per position: 10000^(-2i / width)."""
    return 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)


def rotation(freqs: Tensor, length: int, dim_head: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (S, E): ``x · cos + swapped pairs of x · sin`` rotates interleaved pairs."""
    angles_SF = torch.arange(length, device=freqs.device, dtype=torch.float32)[:, None] * freqs.float()
    cos_SE = torch.ones(length, dim_head, device=freqs.device)
    sin_SE = torch.zeros_like(cos_SE)
    turned = 2 * len(freqs)
    cos_SE[:, 0:turned:2] = cos_SE[:, 1:turned:2] = angles_SF.cos()
    sin_SE[:, 0:turned:2] = -angles_SF.sin()
    sin_SE[:, 1:turned:2] = angles_SF.sin()
    return cos_SE, sin_SE


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    swapped = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin).to(x.dtype)


def relative_buckets(length: int) -> Tensor:
    """(S, S + 1) T5 buckets of query i and key j, key 0 the null key: exact below 16, logarithmic up to 128.

    Keys at or after the query share bucket 0 (Raffel et al. 2020, the causal form, used here without a mask).
    """
    distance = (torch.arange(length)[:, None] - torch.arange(length + 1)).clamp(min=0)
    exact = _BUCKETS // 2
    log = torch.log(distance.clamp(min=1).float() / exact) / math.log(_MAX_DISTANCE / exact)
    far = (exact + (log * (_BUCKETS - exact)).long()).clamp(max=_BUCKETS - 1)
    return torch.where(distance < exact, distance, far)
