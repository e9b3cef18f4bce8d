"""Lets torchvision be imported beside a torch without CUDA: open_clip needs it, transformers imports it where it is.

The registry's torchvision is built for CUDA. Beside a CPU build of torch its operators' file cannot be loaded, and its
Python part then stops at ``operator torchvision::nms does not exist``, and open_clip, transformers and diffusers with
it. Nothing here uses those operators: it is enough that they are declared. Where they can be loaded, nothing is done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[object] = []  # torch forgets a library's declarations when its object goes


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; runs first whenever torchvision is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision" and not _declared:
            _declare_operators()
        return None


def _declare_operators() -> None:
    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None or PathFinder.find_spec("torch") is None:
        return  # a base install has neither
    import torch

    try:
        torch.ops.load_library(str(Path(spec.origin).parent / "_C.so"))  # type: ignore[no-untyped-call]
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in _OPERATORS:
            library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
        _declared.append(library)


def install() -> None:
    """From now on, torchvision can be imported."""
    if not any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())
