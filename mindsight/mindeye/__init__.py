"""MindEye2's decoder: betas in, retrieval and reconstruction tokens out, at any size, with the reference's key names.

Knows nothing of scanners, candidate pools or image generators.
"""

from mindsight.mindeye import losses
from mindsight.mindeye.checkpoint import read_state_dict
from mindsight.mindeye.convert import Converted, convert_mindeye2
from mindsight.mindeye.folded import FoldedMindEye2, fold
from mindsight.mindeye.layout import Layout, PriorLayout
from mindsight.mindeye.loading import load_mindeye2
from mindsight.mindeye.model import MindEye2, Tokens
from mindsight.mindeye.prior import DiffusionPrior
from mindsight.mindeye.sampler import Sampler

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
