"""Tokens to ranked candidates, with a confidence that means something; and the linear decoder.

Knows nothing of scanners, sessions or networks: arrays in, rankings out.
"""

from mindsight.retrieval.confidence import Calibration, calibrate, softmax
from mindsight.retrieval.linear import LinearDecoder
from mindsight.retrieval.pool import CandidatePool
from mindsight.retrieval.ranking import Ranking, cosine_scores, rank

__all__ = ["Calibration", "CandidatePool", "LinearDecoder", "Ranking", "calibrate", "cosine_scores", "rank", "softmax"]
