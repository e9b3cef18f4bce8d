"""MindEye2's decoder: betas in, retrieval and reconstruction tokens out, at any size, with the reference's key names.

Knows nothing of scanners, candidate pools or image generators.
"""

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
