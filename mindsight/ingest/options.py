"""What can be set about a session's betas.

Knows nothing of how they are estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mindsight.errors import BadRequest
from mindsight.glm.hrf import Hrf
from mindsight.glm.normalise import Policy
from mindsight.glm.streaming import Noise
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.stages import STAGES, Stage

Mode = Literal["nilearn", "fixed"]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a session's betas are estimated.

    hrf, high_pass_hz, noise : of ``StreamingGLM``; ``hrf`` if the space has none per voxel
    mode : "nilearn" for a drift basis over the volumes so far, "fixed" for one over the planned run, whose length must
        then be declared: see ``glm.streaming``; a trial's final beta is then its revised one, if it has one
    fast_s, revised_s, final_s : seconds from a trial's onset to its fast beta, its revised one (None: no revised beta)
        and its final one (None: at the end of the run, as for trials whose time has not come by then)
    fast_volumes, revised_volumes, final_volumes : the same in volumes (TR after the onset); takes precedence over the
        seconds. A stage that is not later than the one before it is left out
    ridge_fraction : revised and final betas are ``StreamingGLM.ridge_betas`` with this fraction; None: ``beta``, as
        fast ones always are
    n_noise_components : of the space's noise pool, regressors in the model
    event_duration_s : duration with which every event is modelled; None: as declared
    event_lag_s : added to every onset in the model; does not change when betas are due
    fd_threshold_mm : a volume with more framewise displacement is censored
    limits : when an alert is raised, see ``Alerts``
    fast_motion : motion is estimated in half the time at twice the error, see ``Realigner``
    motion_confounds : the six motion parameters are regressors, raw, as nilearn's FirstLevelModel takes them
    normalise, min_betas, prior_betas, std_floor : of ``Normaliser``
    """

    hrf: Hrf = "glover"
    high_pass_hz: float = 0.01
    noise: Noise = "ar1"
    fast_s: float = 7.5
    fast_volumes: int | None = None
    revised_s: float | None = 27.5
    revised_volumes: int | None = None
    final_s: float | None = None
    final_volumes: int | None = None
    event_duration_s: float | None = None
    event_lag_s: float = 0.0
    fd_threshold_mm: float = 0.5
    limits: QualityLimits = field(default_factory=QualityLimits)
    motion_confounds: bool = True
    fast_motion: bool = False
    mode: Mode = "nilearn"
    ridge_fraction: float | None = None
    n_noise_components: int = 0
    normalise: Policy = "running"
    min_betas: int = 6
    prior_betas: int = 16
    std_floor: float = 0.1

    def __post_init__(self) -> None:
        waits = (self.fast_s, self.fast_volumes, self.revised_s, self.revised_volumes, self.final_s, self.final_volumes)
        if not all(wait is None or wait > 0 for wait in waits):
            raise BadRequest(f"expected every stage after the onset, got {waits}", code="ingest.option")
        if self.ridge_fraction is not None and not 0.0 < self.ridge_fraction < 1.0:
            raise BadRequest(
                f"expected a ridge fraction between 0 and 1, got {self.ridge_fraction!r}", code="ingest.option"
            )

    def waits_s(self, tr_s: float) -> dict[Stage, float]:
        """Seconds from a trial's onset to each stage, in order."""
        settings: tuple[tuple[Stage, float | None, int | None], ...] = (
            ("fast", self.fast_s, self.fast_volumes),
            ("revised", self.revised_s, self.revised_volumes),
            ("final", self.final_s, self.final_volumes),
        )
        waits_s: dict[Stage, float] = {}
        for stage, seconds, volumes in settings:
            wait_s = seconds if volumes is None else volumes * tr_s
            if wait_s is not None and wait_s > max(waits_s.values(), default=0.0):
                waits_s[stage] = wait_s
        return waits_s

    def override(self, given: Mapping[str, Any]) -> IngestOptions:
        """These options with the given ones replaced.

        given : value by field name; None keeps what stands here. A stage given in seconds replaces one in volumes.
            ``limits`` is a mapping itself, see ``QualityLimits.override``; an ``fd_threshold_mm`` is also the limit of
            its alert, unless ``limits`` names one

        Raises BadRequest (``ingest.option``, ``quality.limit``).
        """
        values = {name: value for name, value in given.items() if name != "limits" and value is not None}
        for stage in STAGES:
            if f"{stage}_s" in values:
                values.setdefault(f"{stage}_volumes", None)
        limits = self.limits.override(given.get("limits") or {}, fd_mm=values.get("fd_threshold_mm"))
        return replace(self, limits=limits, **values)
