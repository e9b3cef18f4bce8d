"""Classifier-free guidance as part of a sampler's table: which steps look at the unconditional tokens as well.

Knows nothing of networks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """The prediction is ``uncond + scale * (cond - uncond)`` in the guided steps, ``cond`` in all others.

    first, stop : the guided steps are those from ``first`` up to ``stop`` (Kynkäänniemi et al. 2024, 2404.07724)
    once : the unconditional tokens are looked at in the first guided step only; what they predict for the clean latent
        stands in for them later (residual guidance, Kodaira et al. 2023, 2312.12491)
    """

    scale: float = 1.0
    first: int = 0
    stop: int = 0
    once: bool = False

    @classmethod
    def off(cls) -> Guidance:
        return cls()

    @classmethod
    def full(cls, scale: float) -> Guidance:
        return cls(scale=scale, stop=10**6)

    @classmethod
    def interval(cls, scale: float, first: int, stop: int) -> Guidance:
        return cls(scale=scale, first=first, stop=stop)

    @classmethod
    def one_time(cls, scale: float) -> Guidance:
        return cls(scale=scale, stop=10**6, once=True)

    def guides(self, step: int) -> bool:
        return self.first <= step < self.stop

    def evaluates_uncond(self, step: int) -> bool:
        return step == self.first if self.once and self.guides(step) else self.guides(step)
