"""The networks as they are: the yardstick of every other engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindsight.generators.engines.base import Network, PlainEngine


def load(networks: Sequence[Network]) -> PlainEngine:
    return PlainEngine({one.name: torch.inference_mode()(one.module.eval()) for one in networks})
