"""How far two ways of computing the same thing may lie apart, from the arithmetic, not from one processor.

A sum of n products, taken in any order, with any width of vector and with or without fused multiplication, is off by at
most ``n u sum |x y|``, u = eps / 2 (N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 3). The errors
of its steps have either sign, so that it stays within ``lambda sqrt(n) u sum |x y|`` with a probability of at least
``1 - 2 exp(-lambda^2 / 2)`` (N. Higham and T. Mary, SIAM J. Sci. Comput. 41, 2019). ``LAMBDA`` of 5 leaves 7e-6. Both
ways of computing err: twice that.

An operation's condition multiplies it: how much larger the relative change of the result is than that of what goes in,
for a sum ``sum |x y| / |sum x y|``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LAMBDA = 5.0
HALF_MARGIN = 2.0  # between kernels most of these errors differ by a tenth, those of a long trajectory by 80 %


def rounding(length: float, dtype: Any = np.float32, condition: float = 1.0) -> float:
    """Largest relative difference of two computations of one result.

    length : how many roundings follow each other on the way: terms of a sum, and of sums of sums together
    condition : see the module
    """
    return float(LAMBDA * math.sqrt(length) * np.finfo(dtype).eps * condition)


def half_precision(error: float, measured: float, dtype_eps: float) -> bool:
    """Whether a relative error is one of half precision, of all numbers of a result together.

    At least a fifth of half a unit in the last place, of which rounding the result alone leaves two fifths; at most
    ``HALF_MARGIN`` times what was measured. How a library sums in half precision, and where it rounds between, is its
    own affair, and cannot be derived.
    """
    return 0.2 * dtype_eps / 2 < error < HALF_MARGIN * measured


def network(terms: int, sums: int, evaluations: int = 1) -> dict[str, float]:
    """``atol`` and ``rtol`` of what a float32 network gives, whose numbers are of order one.

    terms : of its longest sum
    sums : layers that follow each other, each with such a sum
    evaluations : of the network on its own output, as a sampler makes them
    """
    close = rounding(terms * sums * evaluations)
    return {"atol": close, "rtol": close}
