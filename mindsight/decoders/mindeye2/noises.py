"""The prior's noise by seed: drawn on the host, which takes longer than a card takes for the trajectory itself.

A trial's stages have one seed, so its noise is drawn once; the next trial's is drawn before that trial
(``Decoder.expect``).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from mindsight.decoders.mindeye2.sampler import Sampler

KEPT = 2  # this trial's, whose later stages are to come, and the next one's


class Noises:
    """The noises of one sampler, on the device of its network."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._kept: OrderedDict[tuple[int, int], list[Tensor]] = OrderedDict()

    def of(self, seed: int, batch: int) -> list[Tensor]:
        """All draws (batch, N, D) of a trajectory, in the order in which it uses them."""
        key = (seed, batch)
        if key not in self._kept:
            self._kept[key] = self._sampler.draws(seed, batch)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
