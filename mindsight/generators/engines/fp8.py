"""The compiled engine with the transformers' products in 8-bit floating point, where the card has it.

Numbers are e4m3 (4 bits of exponent, 3 of mantissa), each row of activations and of weights scaled to its range: row by
row, so that one outlier costs its own row only. Sums are in float32. Results differ by some percent from half
precision: the fidelity stands beside the speed, in ``mindsight engine bench``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mindsight.errors import BadRequest
from mindsight.generators.engines.base import Network
from mindsight.generators.engines.recorded import RecordingEngine, require_card
from mindsight.generators.engines.regions import with_compiled_blocks
from mindsight.weights.sharing import with_same_weights

E4M3 = torch.float8_e4m3fn
_LARGEST = torch.finfo(E4M3).max
_CAPABILITY = (8, 9)  # Ada and Hopper are the first whose tensor cores multiply in 8 bits
_MULTIPLE = 16  # of the sizes of a product
_TRANSFORMER = ".transformer_blocks."


def load(networks: Sequence[Network]) -> RecordingEngine:
    """Raises BadRequest (``engine.card``) where a network is not on a CUDA card, or the card has no 8-bit products."""
    require_card("fp8", networks)
    for one in networks:
        if (found := torch.cuda.get_device_capability(one.weight.device)) < _CAPABILITY:
            raise BadRequest(
                f"expected a card with 8-bit floating point (compute capability 8.9 or later) for the engine fp8, got"
                f" {'.'.join(map(str, found))}: use compiled",
                code="engine.card",
            )
    inference = torch.inference_mode()
    return RecordingEngine(
        {one.name: inference(with_compiled_blocks(in_8_bits(one.module.eval()))) for one in networks}
    )


def in_8_bits(module: nn.Module) -> nn.Module:
    """A copy whose transformers' linear layers are ``Linear8``; all other weights stay in the same memory."""
    made = with_same_weights(module)
    for path, layer in list(made.named_modules()):
        if _TRANSFORMER in path and isinstance(layer, nn.Linear) and not any(n % _MULTIPLE for n in layer.weight.shape):
            made.set_submodule(path, Linear8(layer))
    return made


class Linear8(nn.Module):
    """A linear layer: M rows of D numbers in, C out."""

    weight_CD: Tensor
    scale_1C: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight_CD, scale_C1 = _rows_in_8_bits(layer.weight.detach())
        self.register_buffer("weight_CD", weight_CD)
        self.register_buffer("scale_1C", scale_C1.T.contiguous())
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        rows_MD, scale_M1 = _rows_in_8_bits(x.reshape(-1, x.shape[-1]))
        product_MC = torch._scaled_mm(
            rows_MD,
            self.weight_CD.T,
            scale_a=scale_M1,
            scale_b=self.scale_1C,
            out_dtype=torch.bfloat16,  # the one that every version of this product gives, and wide enough
            use_fast_accum=True,
        )
        result = product_MC.to(x.dtype)
        if self.bias is not None:
            result = result + self.bias
        return result.reshape(*x.shape[:-1], -1)


def _rows_in_8_bits(rows_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Each row divided by a scale (M, 1) in float32, which makes its largest number the format's largest."""
    wide_MD = rows_MD.float()
    scale_M1 = wide_MD.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / _LARGEST
    return (wide_MD / scale_M1).clamp(-_LARGEST, _LARGEST).to(E4M3), scale_M1
