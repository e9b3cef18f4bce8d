"""The networks as they are, and each sampling loop as one CUDA graph: seconds to record, nothing to compile."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindsight.generators.engines.base import Network
from mindsight.generators.engines.recorded import RecordingEngine, require_card


def load(networks: Sequence[Network]) -> RecordingEngine:
    """Raises BadRequest (``engine.card``) where a network is not on a CUDA card."""
    require_card("graphed", networks)
    return RecordingEngine({one.name: torch.inference_mode()(one.module.eval()) for one in networks})
