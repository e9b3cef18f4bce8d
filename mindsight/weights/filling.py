"""An empty network becomes one with weights, on its device and in the layout in which that computes fastest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mindsight.weights.fit import require_fit


def filled(network: Any, what: str, state: Mapping[str, Tensor], dtype: torch.dtype, device: str | torch.device) -> Any:
    """The network, made on torch's ``meta`` device, with these weights, for inference.

    what : the network, as the message names it

    Raises ModelMismatch (``checkpoint.keys``).
    """
    require_fit(what, state, network.state_dict())
    network.load_state_dict({key: tensor.to(device, dtype) for key, tensor in state.items()}, assign=True)
    if torch.device(device).type != "cpu":
        network.to(memory_format=torch.channels_last)  # as tensor cores read convolutions: else each call reorders them
    return network.eval().requires_grad_(False)
