"""Retrieval both ways as published: 300 of the test images, 30 draws; named by what is ranked.

Letters: K images with a brain sample each.

Beware of the direction. The published evaluation computes its "forward" figure, printed in the column *Image*, by
ranking *brain samples* for each image, and "backward", column *Brain*, by ranking *images* for each brain sample; the
paper's text defines the two the other way round. A decoder that ranks images compares with the column Brain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.metric import BRAINS_RANKED, IMAGES_RANKED, Metric, Score
from mindsight.evaluation.metrics.similarity import cosine_matrix

POOL = 300
DRAWS = 30
_Z95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class RetrievalScore(Score):
    """Top-1 retrieval one way; ``value`` is the mean over the draws, as published.

    values_K : (K,) the exact probability of each query's hit among ``pool`` candidates, over all possible draws
    draws_R : (R,) share of hits in each draw
    ranked : what is ranked, ``images`` or ``brain samples``
    published_column : the column of the published tables to compare with
    """

    draws_R: NDArray[np.float64]
    pool: int
    ranked: str
    published_column: str

    @property
    def value(self) -> float:
        return float(self.draws_R.mean())

    @property
    def draws_interval(self) -> tuple[float, float]:
        """95 % interval of the mean over the draws, as published.

        It shrinks with the number of draws, which share their images: it covers the precision of the computed mean, not
        the choice of images, which ``interval`` covers.
        """
        half = _Z95 * float(self.draws_R.std()) / math.sqrt(len(self.draws_R))
        return self.value - half, self.value + half


@dataclass(frozen=True, eq=False)
class TwoWayRetrieval:
    """Both ways."""

    images_ranked: RetrievalScore
    brains_ranked: RetrievalScore


def retrieval(
    brain_KD: NDArray[Any],
    images_KD: NDArray[Any],
    rng: np.random.Generator,
    pool: int = POOL,
    draws: int = DRAWS,
) -> TwoWayRetrieval:
    """Top-1 retrieval by cosine among ``pool`` images drawn without replacement, the mean of ``draws`` draws.

    Row k of both is image k; all axes after the first count as one vector (MindEye2: 256 x 1,664 retrieval tokens).
    A hit is strictly better than every other candidate. Raises BadRequest (``retrieval.pool``) for fewer
    images than ``pool``.
    """
    return retrieval_of(cosine_matrix(brain_KD, images_KD), rng, pool, draws)


def retrieval_of(
    cosines_KK: NDArray[np.float64], rng: np.random.Generator, pool: int = POOL, draws: int = DRAWS
) -> TwoWayRetrieval:
    """``retrieval`` from the cosines of brain sample (rows) and image (columns)."""
    n = len(cosines_KK)
    if not 2 <= pool <= n or cosines_KK.shape != (n, n):
        raise BadRequest(
            f"expected at least {pool} images with a brain sample each, got {cosines_KK.shape[0]} brain samples of "
            f"{cosines_KK.shape[1]} images. Lower the pool, and do not compare with 300-way figures",
            code="retrieval.pool",
        )
    drawn = [rng.choice(n, size=pool, replace=False) for _ in range(draws)]
    images = _one_way(cosines_KK, drawn, IMAGES_RANKED, "images", "Brain")
    brains = _one_way(cosines_KK.T, drawn, BRAINS_RANKED, "brain samples", "Image")
    return TwoWayRetrieval(images, brains)


def _one_way(
    scores_KK: NDArray[np.float64], drawn: list[NDArray[np.int64]], metric: Metric, ranked: str, column: str
) -> RetrievalScore:
    """Queries are rows, candidates columns."""
    pool = len(drawn[0])
    draws_R = np.array([_hits(scores_KK[np.ix_(indices, indices)]).mean() for indices in drawn])
    # a hit if no candidate with the same or a higher score is drawn: a hypergeometric probability
    n = len(scores_KK)
    rivals_K = (scores_KK >= np.diag(scores_KK)[:, None]).sum(axis=1) - 1
    ways = [
        math.comb(n - 1 - rivals, pool - 1) / math.comb(n - 1, pool - 1) for rivals in range(int(rivals_K.max()) + 1)
    ]
    named = replace(metric, chance=1.0 / pool)
    return RetrievalScore(named, np.array(ways)[rivals_K], draws_R, pool, ranked, column)


def _hits(scores_KK: NDArray[np.float64]) -> NDArray[np.bool_]:
    own_K = np.diag(scores_KK)
    hits: NDArray[np.bool_] = (scores_KK >= own_K[:, None]).sum(axis=1) == 1
    return hits
