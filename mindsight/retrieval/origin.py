"""The origin that is subtracted from candidates and queries before their cosine, and when a difference is only noise.

Knows nothing of pools. Letters: D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

# units in the last place by which the origin (a mean) and an embedding (the last of many layers) may each be off
_ULPS = 4


@dataclass(frozen=True, eq=False)
class Origin:
    """The vector that is subtracted from both sides of a cosine.

    A vector of rounding noise has no direction. A difference no longer than the errors of its two sides is nothing but
    noise: its length counts as zero, and it scores exactly 0 on every processor. The limit follows from the precision
    and from the length of the origin, since at such a distance both sides are equally long.

    place_D : (D,) float32
    """

    place_D: NDArray[np.float32]

    @classmethod
    def of(cls, origin_D: ArrayLike) -> Origin:
        """All axes of the origin as one."""
        return cls(np.asarray(origin_D, np.float32).reshape(-1))

    def noise(self, dtype: DTypeLike) -> float:
        """The length that rounding alone may give the difference from an embedding of this type: a few units in the
        last place of float32 on either side, and one of float16 if the embedding was stored in half precision.
        """
        stored = np.finfo(np.float16).eps if np.dtype(dtype) == np.float16 else 0.0
        length = np.linalg.norm(self.place_D.astype(np.float64))
        return float((2 * _ULPS * np.finfo(np.float32).eps + stored) * length)

    def lengths(self, lengths: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """The lengths of differences to the origin, 0 if they are no longer than noise."""
        return np.where(lengths > self.noise(dtype), lengths, 0.0).astype(lengths.dtype)
