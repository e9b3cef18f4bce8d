"""The card that tests of half precision run on: a real one if there is one, otherwise the CPU takes its place."""

from __future__ import annotations

import torch

from mindsight.weights.device import Placement

CARD = Placement("cuda:0" if torch.cuda.is_available() else "cpu", "float16")
