"""torch's autocast for the ``meta`` device, which has none: the lists of operations that a card's autocast casts.

As documented for CUDA: products in the lower precision, norms, softmax and losses in float32, all else in the widest of
what comes; the copy of a float32 weight is kept until the context is left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LOWER = {F.linear, F.conv2d, F.scaled_dot_product_attention, torch.matmul, Tensor.matmul, Tensor.__matmul__}
_WIDER = {F.layer_norm, F.group_norm, F.mse_loss, F.l1_loss, F.softmax, F.log_softmax, Tensor.softmax, F.normalize}


class MetaAutocast(TorchFunctionMode):
    """Entered around the forward pass, as ``torch.autocast`` is."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._cast: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to = self._dtype if func in _LOWER else torch.float32 if func in _WIDER else None
        if to is None:
            return func(*args, **kwargs)
        args = tuple(self._as(each, to) for each in args)
        return func(*args, **{name: self._as(each, to) for name, each in kwargs.items()})

    def _as(self, given: Any, to: torch.dtype) -> Any:
        if not isinstance(given, Tensor) or not given.is_floating_point() or given.dtype == to:
            return given
        if given.is_leaf and given.requires_grad and to == self._dtype:
            if id(given) not in self._cast:
                self._cast[id(given)] = given.to(to)
            return self._cast[id(given)]
        return given.to(to)
