"""Adapts the state dict of a MindEye2 checkpoint to the model, or reports why it is none.

Knows nothing of files; ``mindsight.weights`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mindsight.decoders.mindeye2.layout import WHAT, Layout, infer_layout
from mindsight.decoders.mindeye2.model import MindEye2
from mindsight.decoders.mindeye2.transformer import rotary_frequencies
from mindsight.weights.fit import require_fit

RECOMPUTED = "diffusion_prior.noise_scheduler."
FREQUENCIES = ".rotary_emb.freqs"


def fitting_state(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """The layout of a state dict, and the tensors that the model needs: without the noise schedule, with rotary
    frequencies.

    Raises ModelMismatch (``checkpoint.keys``), which lists the keys that are missing, unexpected or misshapen.
    """
    layout = infer_layout(state)
    with torch.device("meta"):
        wanted = MindEye2(layout).state_dict()
    # the noise schedule follows from its definition, and so do rotary frequencies that a file leaves out
    recomputed = {
        key: rotary_frequencies(2 * len(tensor)) for key, tensor in wanted.items() if key.endswith(FREQUENCIES)
    }
    found = recomputed | {key: tensor for key, tensor in state.items() if not key.startswith(RECOMPUTED)}
    require_fit(WHAT, found, wanted)
    return layout, found


def dtype_of(key: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor in a model of ``dtype``. Rotation angles grow with position: float16 cannot hold them."""
    return torch.float32 if key.endswith(FREQUENCIES) else dtype
