"""Tokens to ranked candidates, with a confidence that means something; and the linear decoder.

Knows nothing of scanners, sessions or networks: arrays in, rankings out.
"""

from mindsight.retrieval.build import Progress, build_pool
from mindsight.retrieval.confidence import Calibration, Confidence, calibrate, softmax
from mindsight.retrieval.linear import LinearDecoder
from mindsight.retrieval.pairs import Choice, TwoAfc, choose_between, two_afc
from mindsight.retrieval.pictures import FolderPictures, Hdf5Pictures, Pictures
from mindsight.retrieval.pool import CandidatePool
from mindsight.retrieval.ranking import Ranking, cosine_scores, cosines_at, rank
from mindsight.retrieval.reduced import ReducedIndex
from mindsight.retrieval.ridge import RidgeTrials

__all__ = [
    "Calibration",
    "CandidatePool",
    "Choice",
    "Confidence",
    "FolderPictures",
    "Hdf5Pictures",
    "LinearDecoder",
    "Pictures",
    "Progress",
    "Ranking",
    "ReducedIndex",
    "RidgeTrials",
    "TwoAfc",
    "build_pool",
    "calibrate",
    "choose_between",
    "cosine_scores",
    "cosines_at",
    "rank",
    "softmax",
    "two_afc",
]
