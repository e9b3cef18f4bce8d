"""torch.compile, and each sampling loop as one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindsight.generators.engines.base import Network
from mindsight.generators.engines.recorded import RecordingEngine, require_card
from mindsight.generators.engines.regions import with_compiled_blocks


def load(networks: Sequence[Network]) -> RecordingEngine:
    """Compile on the first call of each network and shape.

    Raises BadRequest (``engine.card``) if a network is not on a CUDA card.
    """
    require_card("compiled", networks)
    inference = torch.inference_mode()
    return RecordingEngine({one.name: inference(with_compiled_blocks(one.module.eval())) for one in networks})
