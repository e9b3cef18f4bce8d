"""Features → ranked candidates, with a calibrated confidence.

Knows nothing of scanners, sessions or networks: arrays in, rankings out.
"""

from mindsight.retrieval.build import Progress, build_pool
from mindsight.retrieval.confidence import Calibration, Confidence, StageTemperature, fit_temperature, softmax
from mindsight.retrieval.pool import CandidatePool
from mindsight.retrieval.ranking import Ranking, cosine_scores, cosines_at, rank
from mindsight.retrieval.sketch import ReducedIndex
from mindsight.retrieval.stage_temperature import StageTrials, fit_stages
from mindsight.retrieval.two_afc import Choice, TwoAfc, choose_between, two_afc

__all__ = [
    "Calibration",
    "CandidatePool",
    "Choice",
    "Confidence",
    "Progress",
    "Ranking",
    "ReducedIndex",
    "StageTemperature",
    "StageTrials",
    "TwoAfc",
    "build_pool",
    "choose_between",
    "cosine_scores",
    "cosines_at",
    "fit_stages",
    "fit_temperature",
    "rank",
    "softmax",
    "two_afc",
]
