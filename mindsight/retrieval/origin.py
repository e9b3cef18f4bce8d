"""The point that candidates and queries are seen from, and what lies at it.

Knows nothing of pools. Letters: D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

# Units in the last place by which the origin, a mean, and an embedding, the last of many layers, may each be off.
_ULPS = 4


@dataclass(frozen=True, eq=False)
class Origin:
    """What is subtracted from both sides before their cosine is taken.

    A vector of rounding noise has no direction. Of a difference as short as the errors of its two sides, nothing but
    noise is left: it counts as no length at all, and scores exactly 0 on every processor. How short that is follows
    from the precision and from the length of what was subtracted: at such a distance both sides are equally long.

    place_D : (D,) float32
    """

    place_D: NDArray[np.float32]

    @classmethod
    def of(cls, origin_D: ArrayLike) -> Origin:
        """All axes of the origin as one."""
        return cls(np.asarray(origin_D, np.float32).reshape(-1))

    def noise(self, dtype: DTypeLike) -> float:
        """Length that rounding alone may give the difference to an embedding of this type: a few units in the last
        place of float32 on either side, and one of float16 where that is what the embedding was stored in.
        """
        stored = np.finfo(np.float16).eps if np.dtype(dtype) == np.float16 else 0.0
        length = np.linalg.norm(self.place_D.astype(np.float64))
        return float((2 * _ULPS * np.finfo(np.float32).eps + stored) * length)

    def lengths(self, lengths: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """The lengths of differences to the origin, 0 where they are no longer than noise."""
        return np.where(lengths > self.noise(dtype), lengths, 0.0).astype(lengths.dtype)
