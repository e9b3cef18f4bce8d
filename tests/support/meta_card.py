"""torch's ``meta`` device as a stand-in for a card: what lies where, what is copied, and how much memory it takes.

Tensors there have a shape, a dtype and a device, and no data: a network of billions of weights is walked in seconds,
and a value that the host would have to wait for does not exist (torch raises).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class MetaCard(TorchDispatchMode):
    """Watches every operation while it is entered.

    uploads : shape and dtype of each tensor that was copied from the host, in order
    products : (operation, dtype of its weights) -> number of matrix products and convolutions
    operations : of these, a multiplication and an addition as two
    peak_bytes : most memory that was in use at once, with what ``hold`` was given
    strays : operations that mixed devices
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[tuple[tuple[int, ...], torch.dtype]] = []
        self.products: Counter[tuple[str, torch.dtype]] = Counter()
        self.strays: list[str] = []
        self.bytes = self.peak_bytes = self.operations = 0
        self._held: set[int] = set()

    def dtypes(self) -> set[torch.dtype]:
        """Of all products with weights. Those of attention, ``bmm``, have none: torch writes it out in float32 here,
        and a card's fused kernel takes half precision and sums in float32.
        """
        return {dtype for (name, dtype) in self.products if name != "bmm"}

    def hold(self, *parts: nn.Module | Tensor) -> int:
        """Count weights, or a tensor, that were there before; returns the bytes in use."""
        for part in parts:
            for tensor in [part] if isinstance(part, Tensor) else [*part.parameters(), *part.buffers()]:
                self._count(tensor)
        return self.bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given_by_name = dict(kwargs or {})
        if func._overloadpacket not in flop_registry:
            with self:  # what is made of other operations is watched by these
                result = func.decompose(*args, **given_by_name)
            if result is not NotImplemented:
                return result
        result = func(*args, **given_by_name)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        name = func._schema.name.removeprefix("aten::")
        before, after = ({tensor.device.type for tensor in tensors} for tensors in (given, made))
        if name in ("_to_copy", "copy_") and before | after == {"cpu", "meta"}:
            self.uploads += [(tuple(tensor.shape), tensor.dtype) for tensor in made]
        elif len(before | after) > 1:
            self.strays.append(name)
        if func._overloadpacket in flop_registry and "meta" in before:
            self.products[name, given[-1].dtype] += 1
            self.operations += flop_registry[func._overloadpacket](*args, **given_by_name, out_val=result)
        for tensor in made:
            if tensor.device.type == "meta":
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._held:
            self._held.add(key)
            weakref.finalize(storage, self._release, key, storage.nbytes())
            self.bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.bytes)

    def _release(self, key: int, n_bytes: int) -> None:
        self._held.discard(key)
        self.bytes -= n_bytes
