"""A LoRA's file: two thin matrices for each layer that it changes (Hu et al. 2022, arXiv 2106.09685).

Published in several layouts, which all name the same layers: kohya's (``lora_unet_..._to_q.lora_down.weight``, names
with underscores, ``.alpha`` beside), PEFT's (``lora_A``, ``lora_B``), and diffusers' older ones (``.lora.down``,
``.processor.to_q_lora.down``). Knows nothing of the network.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.weights.fit import require_none
from mindsight.weights.state_dict import read_state_dict
from mindsight.weights.tensors import read_metadata

_DOWN, _UP = "down", "up"
_SIDES = {"lora_down": _DOWN, "lora_A": _DOWN, "down": _DOWN, "lora_up": _UP, "lora_B": _UP, "up": _UP}
_FACTOR = re.compile(
    r"(?P<target>.+?)\.(?:(?P<side>lora_down|lora_up|lora_A|lora_B)(?:\.default)?"
    r"|(?:lora|lora_linear_layer)\.(?P<older>down|up))\.weight"
)
_OF_PROCESSOR = re.compile(r"(?P<attention>.+)\.processor\.to_(?P<layer>q|k|v|out)_lora\.(?P<side>down|up)\.weight")
_PREFIXES = ("base_model.model.", "unet.", "lora_unet_", "diffusion_model.")
_ADAPTER, _ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # of a folder of PEFT
_METADATA = "lora_adapter_metadata"  # where diffusers keeps the same


@dataclass(frozen=True, slots=True)
class Factors:
    """``scale * up @ down`` is added to a weight.

    down, up : (R, inputs, ...) and (outputs, R, ...); of a convolution with its kernel
    """

    down: Tensor
    up: Tensor
    scale: float

    def added(self) -> Tensor:
        """(outputs, inputs) float32; a kernel is part of the inputs."""
        return self.scale * (self.up.flatten(1).float() @ self.down.flatten(1).float())


def read_lora(path: Path) -> dict[str, Factors]:
    """Layer, as the file spells it without its prefix -> factors.

    Raises ModelMismatch: ``checkpoint.missing`` and ``.unreadable`` as ``read_state_dict`` does, ``lora.keys`` if
    something in it is no LoRA.
    """
    sides: dict[str, dict[str, Tensor]] = {_DOWN: {}, _UP: {}}
    alphas: dict[str, float] = {}
    others = []
    for key, tensor in read_state_dict(path).items():
        if key.endswith(".alpha") and tensor.numel() == 1:
            alphas[_without_prefix(key.removesuffix(".alpha"))] = float(tensor)
        elif match := _FACTOR.fullmatch(key):
            sides[_SIDES[match["side"] or match["older"]]][_without_prefix(match["target"])] = tensor
        elif match := _OF_PROCESSOR.fullmatch(key):
            layer = "out.0" if match["layer"] == "out" else match["layer"]
            sides[match["side"]][_without_prefix(f"{match['attention']}.to_{layer}")] = tensor
        else:
            others.append(key)
    downs, ups = sides[_DOWN], sides[_UP]
    require_none(
        "a LoRA",
        code="lora.keys",
        unexpected=others,
        missing=[f"{name}, one of its two factors" for name in downs.keys() ^ ups.keys()] or ["factors"] * (not downs),
        misshapen=[
            f"{name}: {tuple(ups[name].shape)} by {tuple(downs[name].shape)}"
            for name in downs.keys() & ups.keys()
            if downs[name].ndim < 2 or ups[name].flatten(1).shape[1:] != downs[name].shape[:1]
        ],
    )
    config = _config(path)
    return {name: Factors(down, ups[name], _scale(name, len(down), alphas, config)) for name, down in downs.items()}


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _scale(name: str, rank: int, alphas: Mapping[str, float], config: Mapping[str, Any]) -> float:
    """alpha over rank; 1 where no alpha is stated."""
    of_layer = next(
        (alpha for ending, alpha in config.get("alpha_pattern", {}).items() if f".{name}".endswith(f".{ending}")), None
    )
    alpha = float(alphas.get(name, of_layer or config.get("lora_alpha") or rank))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _config(path: Path) -> dict[str, Any]:
    """What PEFT states beside the weights, in the file or next to it; empty if it is not there."""
    try:
        if path.name == _ADAPTER and (beside := path.with_name(_ADAPTER_CONFIG)).is_file():
            return dict(json.loads(beside.read_bytes()))
        stated = read_metadata(path).get(_METADATA, "{}") if path.suffix == ".safetensors" else "{}"
        return {key.removeprefix("unet."): value for key, value in json.loads(stated).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelMismatch(
            f"expected the configuration of a LoRA beside {path.name}, got one that cannot be read"
            f" ({type(error).__name__}): download the file again",
            code="checkpoint.unreadable",
        ) from None
