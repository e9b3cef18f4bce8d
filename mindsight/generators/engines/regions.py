"""torch.compile of the blocks that a network repeats, instead of the whole network.

SDXL's U-Net has 70 transformer blocks of two widths and 17 residual blocks: what is alike is compiled once. What a
compiler gains lies inside them (norms, activations and sums that follow a product), and a CUDA graph hides the calls
between them. Knows nothing of samplers.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from mindsight.weights.sharing import with_same_weights

_REPEATED = frozenset({"BasicTransformerBlock", "ResnetBlock2D", "AutoencoderTinyBlock"})  # diffusers' names
# forms of one block: its widths, by sizes of images and batches; torch's own limit of 8 falls back to eager silently
_FORMS = 256


def with_compiled_blocks(module: nn.Module, backend: str | Any = "inductor") -> nn.Module:
    """A copy with the same weights in the same memory, compiled on the first call of each shape.

    A network without such blocks is compiled as a whole.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _FORMS)
    made = with_same_weights(module)
    repeated = [one for one in made.modules() if type(one).__name__ in _REPEATED]
    # one graph for each shape, made for it: dynamic shapes give slower kernels
    options: dict[str, Any] = {"backend": backend, "dynamic": False, "fullgraph": True}
    if not repeated:
        return cast(nn.Module, torch.compile(made, **options))
    for one in repeated:
        one.compile(**options)
    return made
