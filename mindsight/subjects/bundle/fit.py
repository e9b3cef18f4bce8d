"""The part of a subject bundle that rates a reconstruction's fit: how well other trials' reconstructions fit.

Knows nothing of images or tokens: it is given cosines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mindsight.quantiles import share_below
from mindsight.stages import Stage


@dataclass(frozen=True, kw_only=True)
class MismatchedFit:
    """Token cosines between the decoded tokens of one calibration trial and the reconstruction of another that showed
    another image, over all such pairs.

    quantiles : 0, 0.01 ... 1 of these cosines
    n : trials that were paired
    """

    quantiles: tuple[float, ...]
    n: int


@dataclass(frozen=True, kw_only=True)
class FitCalibration:
    """What a fit is compared with.

    encoder, generator : digests of those that the cosines were measured with; no others give comparable cosines
    stages : of each stage that was calibrated
    """

    encoder: str
    generator: str
    stages: Mapping[Stage, MismatchedFit]

    def percentile(self, token_cosine: float, stage: Stage) -> float | None:
        """Percentile rank among mismatched reconstructions, 0 to 100, of all of which it is never certain to be better:
        with n trials at most 100 n / (n + 1). None for a stage that was not calibrated.
        """
        others = self.stages.get(stage)
        if others is None:
            return None
        return 100.0 * share_below(token_cosine, others.quantiles) * others.n / (others.n + 1)
