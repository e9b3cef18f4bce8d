"""What a CUDA graph does, on any machine: operations on tensors are recorded, then replayed without Python between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable[..., Any], Any, Any, Any]] = []  # with their results, which stay alive

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


def record(sample: Callable[..., Tensor], places: Sequence[Tensor]) -> Callable[[], Tensor]:
    """A ``mindsight.generators.engines.recorded.Record``."""
    recorder = _Recorder()
    with recorder:
        last = sample(*places)

    def replay() -> Tensor:
        now: dict[int, Any] = {}

        def current(one: Any) -> Any:
            return now.get(id(one), one)

        for function, args, kwargs, before in recorder.operations:
            after = function(*tree_map(current, args), **tree_map(current, kwargs))
            for old, new in zip(tree_flatten(before)[0], tree_flatten(after)[0], strict=True):
                now[id(old)] = new
        result: Tensor = current(last)
        return result

    return replay
