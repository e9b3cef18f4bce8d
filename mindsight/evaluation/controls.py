"""Inputs for controls, whose results are at chance unless there is a leak: exchanged pairs, noise for the generator.

Knows nothing of decoders. Letters: K trials or images, N tokens, D channels of a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest


def exchanged(groups_K: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """(K,) an order in which no item keeps its position and none leaves its group.

    Raises BadRequest (``control.group``) for a group of one.
    """
    order_K = np.arange(len(groups_K))
    for group in np.unique(groups_K):
        indices = np.flatnonzero(groups_K == group)
        if len(indices) < 2:
            raise BadRequest(
                f"expected at least two trials in every group, got one in group {group}", code="control.group"
            )
        # one cycle through a random order moves every item
        mixed = rng.permutation(indices)
        order_K[mixed] = np.roll(mixed, 1)
    return order_K


def noise_tokens(tokens_KND: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """(K, N, D) Gaussian noise with the mean and deviation of each token's channels over the trials.

    What the generator makes of this shows its prior over images, without any information from the brain.
    """
    noise_KND = rng.standard_normal(tokens_KND.shape, np.float32)
    noise_KND *= tokens_KND.std(axis=0, dtype=np.float32)
    noise_KND += tokens_KND.mean(axis=0, dtype=np.float32)
    return noise_KND
