"""MindEye2's decoder: betas in, retrieval and reconstruction tokens out, at any size, with the reference's key names.

Knows nothing of scanners, candidate pools or image generators. The names here are imported when they are asked for: a
process that only reads a bundle does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindsight.decoders.mindeye2 import losses
    from mindsight.decoders.mindeye2.convert import Converted, convert_mindeye2
    from mindsight.decoders.mindeye2.folded import FoldedMindEye2, fold
    from mindsight.decoders.mindeye2.layout import Layout, PriorLayout
    from mindsight.decoders.mindeye2.loading import load_mindeye2
    from mindsight.decoders.mindeye2.model import MindEye2, Tokens
    from mindsight.decoders.mindeye2.prior import DiffusionPrior
    from mindsight.decoders.mindeye2.sampler import Sampler
    from mindsight.weights.state_dict import read_state_dict

__all__ = [
    "Converted",
    "DiffusionPrior",
    "FoldedMindEye2",
    "Layout",
    "MindEye2",
    "PriorLayout",
    "Sampler",
    "Tokens",
    "convert_mindeye2",
    "fold",
    "load_mindeye2",
    "losses",
    "read_state_dict",
]
_MODULES = {
    "Converted": "convert",
    "DiffusionPrior": "prior",
    "FoldedMindEye2": "folded",
    "Layout": "layout",
    "MindEye2": "model",
    "PriorLayout": "layout",
    "Sampler": "sampler",
    "Tokens": "model",
    "convert_mindeye2": "convert",
    "fold": "folded",
    "load_mindeye2": "loading",
}


def __getattr__(name: str) -> Any:
    if name == "losses":
        return import_module(f"{__name__}.losses")
    if name == "read_state_dict":
        return import_module("mindsight.weights.state_dict").read_state_dict
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
