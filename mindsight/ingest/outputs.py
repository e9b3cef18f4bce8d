"""What an ingest session returns: a volume's report and a trial's beta.

Knows nothing of how they are computed. V voxels of the mask, in C order of the reference's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.glm.normalise import Source, WarmUp
from mindsight.preprocessing.quality.rules import Alert
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.stages import Stage

CensoredBy = Literal["motion", "spike", "pose"]
"""Why a volume is excluded: the head moved, the signal changed suddenly, or no pose explains the volume."""

FlaggedBy = Literal["motion", "spike", "pose", "missing", "early", "registration"]
"""Why a beta is flagged: a volume of its response was censored or is missing, the run ended or began inside the
response, or the run could not be registered."""


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """One volume's quality.

    translation_mm, rotation_rad : motion against the reference about the scanner's origin, as SPM reports it (FD and
        confounds are about the head's centre); None if ingest does not estimate it (motion was given,
        or the volume has too few slices)
    fd_mm : framewise displacement against the volume before (Power et al. 2012), None for a run's first volume and
        if motion is neither estimated nor given in a known order
    dvars_percent, tsnr : see ``QualityFigures``
    residual, outlier_slices : see ``Aligned``; None and empty if motion is not estimated
    aligned : False if no pose explained the volume
    censored_by : why the volume is excluded from the betas; None if it is not
    alerts : conditions of the run that began or ended with this volume, in words for the operator
    """

    translation_mm: tuple[float, float, float] | None
    rotation_rad: tuple[float, float, float] | None
    fd_mm: float | None
    dvars_percent: float | None
    tsnr: float | None
    aligned: bool
    censored_by: CensoredBy | None
    residual: float | None = None
    outlier_slices: tuple[int, ...] = ()
    alerts: tuple[Alert, ...] = ()

    @property
    def censored(self) -> bool:
        """Whether the volume is excluded from the betas."""
        return self.censored_by is not None


@dataclass(frozen=True, slots=True)
class RoiValue:
    """One region of interest in one volume.

    mean : over its voxels, in units of the voxel values
    percent : change from the mean of its baseline's volumes so far, %; None before there is one
    n_voxels : voxels of the region in the session's mask
    """

    name: str
    mean: float
    percent: float | None
    n_voxels: int


@dataclass(frozen=True, eq=False)
class TrialBeta:
    """One trial's response at one stage, and the statistics to z-score it by.

    beta_V : (V,) float32, in units of the voxel values
    error_V : (V,) float32, its standard error in the same units, see ``StreamingGLM.estimate``; of final betas and,
        in a fixed basis, of revised ones; None for others and for ridge estimates
    error : median over voxels of the standard error; None for ridge estimates and while there are too few volumes
    n_volumes : volumes of the run that were used, without missing and censored ones
    flagged : a missing or censored volume lies in the trial's response, the run ended before the response had risen,
        or the run could not be registered to the subject
    mean_V, std_V, n_statistics : see ``Statistics``
    normalised_by : the policy that gave them; "none" is mean 0 and standard deviation 1, because too few betas are
        available
    n_run : betas of the run so far that can be normalised by, its own among them
    warming_up : while the statistics are not yet those of the session's policy
    flagged_by : the reasons, if it is flagged
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
    n_run: int = 0
    warming_up: WarmUp | None = None
    flagged_by: tuple[FlaggedBy, ...] = ()


@dataclass(frozen=True, eq=False)
class VolumeOutput:
    """What follows from one volume.

    timings_ms : motion (align, sample, quality), glm (push), beta (all of ``betas``)
    registration : where the run's head is in the subject's space; None for volumes that did not determine it
    rois : the session's regions of interest
    """

    report: VolumeReport
    betas: list[TrialBeta]
    timings_ms: dict[str, float]
    registration: RegistrationReport | None = None
    rois: tuple[RoiValue, ...] = ()
