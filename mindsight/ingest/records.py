"""What goes into ingest and what comes out of it.

Knows nothing of how it is done. V voxels of the mask, in C order of the reference's grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.glm.hrf import Hrf
from mindsight.glm.normalise import Policy, Source
from mindsight.glm.streaming import Noise
from mindsight.ingest.placement import Placement
from mindsight.preprocessing.quality.alerts import Alert, QualityLimits
from mindsight.stages import Stage
from mindsight.volume import Volume

Mode = Literal["nilearn", "fixed"]
MotionOrder = Literal["translations", "rotations"]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a session's betas come about.

    hrf, high_pass_hz, noise : of ``StreamingGLM``; ``hrf`` where the space does not say it per voxel
    mode : "nilearn" for a drift basis over the volumes so far, "fixed" for one over the planned run, whose length must
        then be declared: see ``glm.streaming``; a trial's final answer is then its revised one, where it got that
    fast_s, revised_s, final_s : seconds after a trial's onset of its first answer, of the revised one (None: no such
        answer) and of the final one (None: at the end of the run, where trials get it whose time has not come)
    fast_volumes, revised_volumes, final_volumes : the same in volumes, that is so many TR after the onset; where given,
        it is taken instead of the seconds. An answer whose time is not after that of the one before is left out
    ridge_fraction : revised and final answers are ``StreamingGLM.ridge_betas`` with this fraction; None: ``beta``, as
        fast ones always are
    n_noise_components : of the space's noise pool, regressors in the model
    event_duration_s : the length every event is modelled with; None: as declared
    event_lag_s : added to every onset in the model; it does not move the time of the answers
    fd_threshold_mm : a volume with more framewise displacement is censored
    limits : beyond which a person is told
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
            raise BadRequest(f"expected answers after the onset, got {waits}", code="ingest.option")
        if self.ridge_fraction is not None and not 0.0 < self.ridge_fraction < 1.0:
            raise BadRequest(
                f"expected a ridge fraction between 0 and 1, got {self.ridge_fraction!r}", code="ingest.option"
            )

    def waits_s(self, tr_s: float) -> dict[Stage, float]:
        """Seconds after a trial's onset of its answers, in their order."""
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


@dataclass(frozen=True, eq=False)
class Space:
    """Where the subject's voxels are, and what is known of them.

    reference : the volume that others are aligned to
    mask_XYZ : (X, Y, Z) bool, the V voxels in it
    hrf_V : (V,) place in ``glm.hrf.LIBRARY`` of each voxel's response; None: all as ``IngestOptions.hrf``
    lag_V : (V,) seconds at which each voxel is measured, from the middle of the volume; None: nobody cares
    noise_pool_V : (V,) bool, voxels that do not answer to events; None: nobody looked for them
    """

    reference: Volume
    mask_XYZ: NDArray[np.bool_]
    hrf_V: NDArray[np.uint8] | None = None
    lag_V: NDArray[np.float32] | None = None
    noise_pool_V: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.mask_XYZ.shape != self.reference.shape or not self.mask_XYZ.any():
            raise BadRequest(
                f"expected a mask with voxels in it on the reference's grid {self.reference.shape}, got"
                f" {self.mask_XYZ.shape} with {int(self.mask_XYZ.sum())}",
                code="space.mask",
            )
        for name, of_voxels in (("responses", self.hrf_V), ("lags", self.lag_V), ("noise pool", self.noise_pool_V)):
            if of_voxels is not None and of_voxels.shape != (self.n_voxels,):
                raise BadRequest(
                    f"expected {name} for {self.n_voxels} voxels, got shape {of_voxels.shape}", code="space.voxels"
                )

    @property
    def n_voxels(self) -> int:
        return int(self.mask_XYZ.sum())


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """One volume's quality.

    translation_mm, rotation_rad : motion against the reference about the scanner's origin, as SPM reports it (FD and
        confounds are about the head's centre); None where ingest does not estimate it (it was given,
        or the volume is too thin)
    fd_mm : framewise displacement against the volume before (Power et al. 2012), None for a run's first volume and
        where motion is neither estimated nor given in a known order
    dvars_percent, tsnr : see ``QualityFigures``
    residual, outlier_slices : see ``Aligned``; None and none where motion is not estimated
    aligned : False where no pose explained the volume
    censored : the volume takes no part in the betas: too much motion, no pose, or a spike
    alerts : conditions of the run that began or ended with this volume, in words for a person
    """

    translation_mm: tuple[float, float, float] | None
    rotation_rad: tuple[float, float, float] | None
    fd_mm: float | None
    dvars_percent: float | None
    tsnr: float | None
    aligned: bool
    censored: bool
    residual: float | None = None
    outlier_slices: tuple[int, ...] = ()
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True, eq=False)
class TrialBeta:
    """One trial's response, and what to z-score it by.

    beta_V : (V,) float32, in units of the voxel values
    error_V : (V,) float32, its standard error in the same units, see ``StreamingGLM.estimate``; of final answers and,
        in a fixed basis, of revised ones; None for others and for those by ridge
    error : median over voxels of the standard error; None by ridge, and as long as too few volumes are there
    n_volumes : volumes of the run that went into it, without missing and censored ones
    flagged : a missing or censored volume fell into the trial's response, the run ended before the response had risen,
        or the place of the run is a guess
    mean_V, std_V, n_statistics : see ``Statistics``
    normalised_by : which policy these are; "none" is mean 0 and standard deviation 1, for want of betas
    """

    run: int
    trial: int
    stage: Stage
    beta_V: NDArray[np.float32]
    error_V: NDArray[np.float32] | None
    error: float | None
    n_volumes: int
    flagged: bool
    mean_V: NDArray[np.float32]
    std_V: NDArray[np.float32]
    n_statistics: int
    normalised_by: Source


@dataclass(frozen=True, eq=False)
class VolumeOutput:
    """What one volume brought.

    timings_ms : motion (align, sample, quality), glm (push), beta (all of ``betas``)
    placement : where this volume told where the run's head is
    """

    report: VolumeReport
    betas: list[TrialBeta]
    timings_ms: dict[str, float]
    placement: Placement | None = None


@dataclass(frozen=True, eq=False)
class IngestState:
    """All that a session depends on: arrays by name, and the rest as JSON has it."""

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]
