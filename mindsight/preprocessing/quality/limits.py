"""Limits on a run's quality figures.

Knows nothing of how figures are measured or of what is reported about them.

References: Power et al., NeuroImage 59(3), 2012, and Esteban et al. (fMRIPrep), Nature Methods 16, 2019 (FD 0.5 mm,
DVARS 1.5 times the usual); Parkes et al., NeuroImage 171, 2018 (a run with more than a fifth of its volumes in motion
is left out); Friedman and Glover, J Magn Reson Imaging 23, 2006 (drift of the mean signal as a figure of the scanner).
Defaults without a reference are choices, marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mindsight.errors import BadRequest


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The limit of each figure. None: no alert about it.

    fd_mm : framewise displacement of one volume (Power 2012)
    displacement_mm : of the head from the reference, see ``rigid``; about a voxel and a half of common EPI (a choice)
    censored_share : share of the last ``window_volumes`` that is excluded from the betas (Parkes 2018)
    dvars_ratio : DVARS of one volume against the run's median (fMRIPrep's standardised DVARS)
    tsnr_ratio : tSNR of the run so far over that of the calibration; lower is worse (a choice)
    tsnr_start_ratio : tSNR of the run so far over what it was once the run had settled (a choice)
    drift_percent : mean signal against the run's start, either way (scanners hold 1 % on a phantom; a choice)
    signal_percent : mean signal against the calibration's, either way (a choice)
    residual : share of a volume's variance that the reference leaves unexplained (a choice)
    outlier_share : share of the slices of the last ``window_volumes`` that do not fit (a choice)
    spikes, unplaced : number of spikes, and of volumes without a pose, tolerated among the last ``window_volumes``
    window_volumes : how far back shares and counts look
    settle_volumes : volumes before the run's own level is known
    quiet_volumes : volumes without a condition before its end is reported
    """

    fd_mm: float | None = 0.5
    displacement_mm: float | None = 3.0
    censored_share: float | None = 0.2
    dvars_ratio: float | None = 1.5
    tsnr_ratio: float | None = 0.7
    tsnr_start_ratio: float | None = 0.7
    drift_percent: float | None = 3.0
    signal_percent: float | None = 20.0
    residual: float | None = 0.2
    outlier_share: float | None = 0.01
    spikes: float | None = 0
    unplaced: float | None = 0
    window_volumes: int = 30
    settle_volumes: int = 10
    quiet_volumes: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            lowest = 1 if field.name.endswith("_volumes") else 0
            if value is not None and not lowest <= value < float("inf"):
                raise BadRequest(
                    f"expected {field.name} to be a number from {lowest} on, got {value!r}", code="quality.limit"
                )

    def override(self, named: Mapping[str, Any], fd_mm: float | None = None) -> QualityLimits:
        """These limits with the named ones replaced.

        named : value by field name; None switches that alert off
        fd_mm : framewise displacement that censors a volume; also the alert's limit unless ``named`` has one

        Raises BadRequest (``quality.limit``).
        """
        return replace(self, **({} if fd_mm is None else {"fd_mm": fd_mm}) | dict(named))
