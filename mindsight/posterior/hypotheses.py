"""Two hypotheses about the image that was seen: it is one of the candidates, or none of them.

Knows nothing of decoders, rankings or networks. Bayes' rule: the candidates' probability is that which was stated
beforehand, times how much better they explain the decoded features than an image of which nothing is known. An image
that is in no pool is explained by no candidate, so that candidates take no part in its reconstruction.

Letters: K candidates whose tokens are given, P directions, D numbers of an image's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, logsumexp

from mindsight.posterior.errors import DecodingErrors


@dataclass(frozen=True, eq=False)
class Posterior:
    """in_pool : probability that one of the candidates was seen. weights_K : of each, given that one of them was."""

    in_pool: float
    weights_K: NDArray[np.float64]


def weigh(
    errors: DecodingErrors,
    stage: str,
    decoded_X: NDArray[Any],
    candidates_KD: NDArray[Any],
    n_candidates: int,
    prior_in_pool: float,
) -> Posterior:
    """The probability of both hypotheses, and of each candidate.

    decoded_X : the features of one trial, any shape
    candidates_KD : tokens of the likeliest candidates (K, ...), such as the first of a ranking. All others are taken to
        have no likelihood, which can only lower ``in_pool``
    n_candidates : of the whole pool, all equally probable beforehand
    prior_in_pool : probability beforehand that one of them was seen
    """
    place_P = errors.place(decoded_X[None])[0]
    at = errors.stages[stage]
    likelihood_K = at.of_image.log_density(place_P - errors.expected(candidates_KD))
    among = float(logsumexp(likelihood_K))
    elsewhere = float(at.of_any.log_density(place_P[None])[0])
    odds = among - np.log(n_candidates) - elsewhere + float(logit(prior_in_pool))
    return Posterior(float(expit(odds)), np.exp(likelihood_K - among))
