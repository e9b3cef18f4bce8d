"""The prior's network in its inference form: weights laid out for speed once, one step in few, large operations.

Knows nothing of diffusion or of training: noisy image tokens, a time token and brain tokens in, clean image tokens out.
Equal to ``PriorNetwork`` in exact arithmetic:

- queries, key and value come out of one matrix product, for all rows that a layer needs;
- in half precision, epsilons are those of the reference's autocast: its residual stream is float32, so that only the
  norm behind the attention sees half precision and takes the larger epsilon that goes with it;
- there too, queries and keys are scaled to length one by a root mean square norm, which is one kernel;
- the null key is normalised beforehand, and its logits' bias lies with all others in one table;
- heads may be padded with zeros to the width that a fused attention kernel needs (``head_multiple``).

Axes: B batch, S sequence, R the last rows of S that a layer gives, H heads, E width of a head, K keys, N tokens,
D channels.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindsight.decoders.mindeye2.transformer import COSINE_SCALE, Attention, Layer, Transformer, gain_epsilon

_EPS = 1e-5
_MASK_MULTIPLE = 16  # fused kernels copy a mask whose rows do not start at multiples of this


class _Weights(NamedTuple):
    """One layer. ``qkv`` and ``out`` have heads of the padded width."""

    norm_D: Tensor
    qkv: Tensor
    null_k_11E: Tensor
    null_v_11E: Tensor
    out: Tensor
    out_norm_D: Tensor
    inner_norm_D: Tensor
    widen: Tensor
    narrow: Tensor


class PriorInference:
    """Made from a transformer and its learned query; make a new one when their weights change."""

    def __init__(self, transformer: Transformer, query_ND: Tensor, head_multiple: int = 1) -> None:
        layers = [cast(Layer, layer) for layer in transformer.layers]
        first = cast(Attention, layers[0][0])
        self._heads, self._width = first.heads, first.null_kv.shape[1]
        self._padded = -(-self._width // head_multiple) * head_multiple
        self._query_ND = query_ND
        self._out_eps = gain_epsilon(query_ND.dtype)
        at = transformer.positions(2 * len(query_ND) + 1)
        padding = (0, self._padded - self._width)
        self._cos_S1E = F.pad(at.cos_SE, padding)[:, None]
        self._sin_S1E = F.pad(at.sin_SE, padding)[:, None]
        self._even_E = torch.full((self._padded,), self._padded**-0.5, device=query_ND.device)
        self._bias_XK = _with_aligned_rows(at.bias_SHK.flatten(0, 1).to(query_ND.dtype))
        self._layers = [self._laid_out(layer) for layer in layers]
        self._norm_D, self._project = transformer.norm.g, transformer.project_out.weight

    def __call__(self, image_BND: Tensor, time_B1D: Tensor, brain_BND: Tensor) -> Tensor:
        """Clean image tokens (B, N, D)."""
        x_BSD = torch.cat((brain_BND, time_B1D, image_BND + self._query_ND), dim=1)
        rows = x_BSD.shape[1]
        for number, weights in enumerate(self._layers):
            if number == len(self._layers) - 1:
                rows = len(self._query_ND)
            x_BSD = self._layer(weights, x_BSD, rows)
        # the reference divides by the maximum, not by the maximum of absolute values
        x_BSD = self._normed(x_BSD / x_BSD.amax(dim=-1, keepdim=True), self._norm_D)
        return F.linear(x_BSD, self._project)

    def _layer(self, w: _Weights, x_BSD: Tensor, rows: int) -> Tensor:
        x_BRD = x_BSD[:, -rows:]
        attended_BRX = self._attended(w, self._normed(x_BSD, w.norm_D), rows)
        x_BRD = x_BRD + self._normed(F.linear(attended_BRX, w.out), w.out_norm_D, self._out_eps)
        value, gate = F.linear(self._normed(x_BRD, w.inner_norm_D), w.widen).chunk(2, dim=-1)
        return x_BRD + F.linear(value * F.silu(gate), w.narrow)

    def _attended(self, w: _Weights, x_BSD: Tensor, rows: int) -> Tensor:
        """(B, R, H·E): all heads share one key and one value, so they are further query rows of one head."""
        batch, length, _ = x_BSD.shape
        heads, width = self._heads, self._padded
        if rows == length:
            q_BRX, k_BSE, v_BSE = torch.split(F.linear(x_BSD, w.qkv), [heads * width, width, width], dim=-1)
        else:
            q_BRX = F.linear(x_BSD[:, -rows:], w.qkv[: heads * width])
            k_BSE, v_BSE = F.linear(x_BSD, w.qkv[heads * width :]).chunk(2, dim=-1)
        q_BRHE = self._turned(torch.unflatten(q_BRX, -1, (heads, width)))
        k_BSE = self._turned(k_BSE[:, :, None])[:, :, 0]
        attended = F.scaled_dot_product_attention(
            q_BRHE.reshape(batch, 1, -1, width),
            torch.cat((w.null_k_11E.expand(batch, 1, -1), k_BSE), dim=1)[:, None],
            torch.cat((w.null_v_11E.expand(batch, 1, -1), v_BSE), dim=1)[:, None],
            attn_mask=self._bias_XK[-rows * heads :],
            scale=COSINE_SCALE,
        )
        return attended.reshape(batch, rows, heads * width)

    def _turned(self, x_BRHE: Tensor) -> Tensor:
        """Rotated by position and scaled to length one, in float32 whatever comes in."""
        rows = x_BRHE.shape[1]
        swapped = torch.unflatten(x_BRHE, -1, (-1, 2)).flip(-1).flatten(-2)
        turned = torch.addcmul(x_BRHE * self._cos_S1E[-rows:], swapped, self._sin_S1E[-rows:])
        return self._of_length_one(turned).to(x_BRHE.dtype)

    def _of_length_one(self, x: Tensor) -> Tensor:
        if self._query_ND.dtype == torch.float32:
            return F.normalize(x, dim=-1)  # rounds as the reference does
        return F.rms_norm(x, (self._padded,), self._even_E, eps=1e-24)

    def _normed(self, x: Tensor, gain_D: Tensor, eps: float = _EPS) -> Tensor:
        return F.layer_norm(x, gain_D.shape, gain_D, None, eps)

    def _laid_out(self, layer: Layer) -> _Weights:
        attention, feed_forward = cast(Attention, layer[0]), cast(nn.Sequential, layer[1])
        narrow_out, out_norm = (
            part.get_parameter(name) for part, name in zip(attention.to_out, ("weight", "g"), strict=True)
        )
        more = self._padded - self._width

        def padded(weight: Tensor) -> Tensor:
            """(heads · width, D) with rows of zeros behind every head."""
            return F.pad(torch.unflatten(weight, 0, (-1, self._width)), (0, 0, 0, more)).flatten(0, 1)

        null_k_1E, null_v_1E = torch.split(F.pad(attention.null_kv, (0, more)), 1)
        return _Weights(
            norm_D=attention.norm.g,
            qkv=padded(torch.cat((attention.to_q.weight, attention.to_kv.weight))),
            null_k_11E=self._of_length_one(null_k_1E.float()).to(null_k_1E.dtype)[None],
            null_v_11E=null_v_1E[None],
            out=padded(narrow_out.T).T.contiguous(),
            out_norm_D=out_norm,
            inner_norm_D=feed_forward[0].get_parameter("g"),
            widen=feed_forward[1].get_parameter("weight"),
            narrow=feed_forward[5].get_parameter("weight"),
        )


def _with_aligned_rows(table_XK: Tensor) -> Tensor:
    """The same table, in memory with rows that start at multiples of what kernels need."""
    n_keys = table_XK.shape[1]
    return F.pad(table_XK, (0, -n_keys % _MASK_MULTIPLE))[:, :n_keys]
