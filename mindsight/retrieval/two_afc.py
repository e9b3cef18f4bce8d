"""Two-alternative forced choice between two named candidates that look alike: the one nearer to the query is chosen.

Knows nothing of brains. Letters: K trials, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy
from mindsight.errors import BadRequest
from mindsight.retrieval.confidence import Calibration
from mindsight.retrieval.pool import CandidatePool
from mindsight.retrieval.ranking import Ranking, cosines_at


@dataclass(frozen=True, eq=False)
class TwoAfc:
    """The result for a set of pairs.

    accuracy : share of trials whose shown candidate scored strictly higher, beside its chance of one half
    margins_K : (K,) cosine of the shown candidate minus that of the other; a tie, 0, is no hit
    """

    accuracy: Accuracy
    margins_K: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision of one ranking on one pair.

    chosen : the nearer of the two; the first if both are equally near
    margin : score of the chosen minus that of the other, in the calibration's score; 0 is no decision
    probability : calibrated, that the chosen one is right, if one of the two is
    """

    first: str
    second: str
    chosen: str
    margin: float
    probability: float


def choose_between(
    ranking: Ranking, pool: CandidatePool, calibration: Calibration, pairs: Sequence[tuple[str, str]]
) -> tuple[Choice, ...]:
    """Decide each pair from an existing ranking. Raises ModelMismatch (``pool.unknown_candidate``)."""
    scores_N, choices = calibration.scores(ranking), []
    for first, second in pairs:
        scores_2 = scores_N[[pool.index_of(first), pool.index_of(second)]]
        margin = float(abs(scores_2[0] - scores_2[1]))
        chosen = first if scores_2[0] >= scores_2[1] else second
        probability = float(calibration.probabilities(scores_2).max())
        choices.append(Choice(first, second, chosen, margin, probability))
    return tuple(choices)


def two_afc(queries_KD: NDArray[Any], pool: CandidatePool, pairs: Sequence[tuple[str, str]]) -> TwoAfc:
    """Decide between two candidates in each trial; no other candidate is read.

    queries_KD : (K, ...) predicted embeddings, one for each pair
    pairs : K of (shown, other), ids of the pool

    The interval assumes independent trials: pass each trial once, not once for each of many alternatives.

    Raises BadRequest (``two_afc.pairs``) for another number of pairs than of queries or a pair of one candidate with
    itself, ModelMismatch (``pool.unknown_candidate``, ``pool.query_shape``).
    """
    same = [shown for shown, other in pairs if shown == other]
    if same or len(pairs) != len(queries_KD):
        raise BadRequest(
            f"expected a pair of different candidates for each of {len(queries_KD)} queries, got {len(pairs)} pairs"
            + (f", one of them {same[0]} with itself" if same else ""),
            code="two_afc.pairs",
        )
    rows_K2 = np.array([[pool.index_of(shown), pool.index_of(other)] for shown, other in pairs]).reshape(-1, 2)
    margins_K = np.empty(len(pairs))
    for trial, rows_2 in enumerate(rows_K2):
        shown, other = cosines_at(queries_KD[trial : trial + 1], pool, rows_2)[0]
        margins_K[trial] = float(shown) - float(other)
    return TwoAfc(Accuracy(int((margins_K > 0).sum()), len(pairs), 0.5), margins_K)
