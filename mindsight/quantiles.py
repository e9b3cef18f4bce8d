"""A distribution kept as its quantiles, which fit into a bundle's description, and its share below a value.

Knows nothing of what is distributed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PROBABILITIES = np.linspace(0.0, 1.0, 101)


def quantiles_of(values: NDArray[Any]) -> tuple[float, ...]:
    """Quantiles 0, 0.01 ... 1."""
    return tuple(float(q) for q in np.quantile(np.asarray(values, dtype=np.float64), _PROBABILITIES))


def share_below(value: float, quantiles: tuple[float, ...]) -> float:
    """Share of the distribution below the value, interpolated; what equals the value is not below it."""
    upper = int(np.searchsorted(quantiles, value, side="left"))
    if upper == 0:
        return 0.0
    if upper == len(quantiles):
        return 1.0
    low, high = quantiles[upper - 1], quantiles[upper]
    return (upper - 1 + (value - low) / (high - low)) / (len(quantiles) - 1)
