"""Messages of what was measured: volumes, regions of interest, the session's space, betas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mindsight.protocol.base import Digest, SessionMessage, StageLatency
from mindsight.protocol.rois import RoiBaseline, RoiName, RoiValue
from mindsight.stages import Stage


class VolumeReceived(SessionMessage):
    type: Literal["volume.received"] = "volume.received"
    run: int
    index: int
    latency_ms: StageLatency = StageLatency()


class VolumeMissing(SessionMessage):
    type: Literal["volume.missing"] = "volume.missing"
    run: int
    index: int
    reason: str


class VolumeProcessed(SessionMessage):
    type: Literal["volume.processed"] = "volume.processed"
    run: int
    index: int
    translation_mm: tuple[float, float, float] | None = Field(
        default=None, description="about the scanner's origin; None if motion is not estimated"
    )
    rotation_deg: tuple[float, float, float] | None = None
    fd_mm: float | None = Field(
        default=None, description="framewise displacement (Power et al. 2012, 50 mm sphere); None for the first volume"
    )
    dvars_percent: float | None = None
    tsnr: float | None = Field(
        default=None, description="temporal signal-to-noise ratio so far in this run, median over the mask"
    )
    residual: float | None = Field(default=None, description="share of the volume's variance left by the reference")
    outlier_slices: tuple[int, ...] = Field(default=(), description="slices whose signal differs from the other slices")
    censored: bool
    censored_by: Literal["motion", "spike", "pose"] | None = Field(
        default=None,
        description="why it was censored: framewise displacement over the limit, sudden signal change, or no head"
        " position that explains the volume; None: not censored, or by an earlier release",
    )
    latency_ms: StageLatency = StageLatency()


class RoiDeclared(SessionMessage):
    """A region of interest is measured from the next volume on, in place of an earlier one of this name."""

    type: Literal["roi.declared"] = "roi.declared"
    name: RoiName
    mask: Digest = Field(description="its mask, as a volume")
    n_voxels: int
    baseline: RoiBaseline = RoiBaseline()


class RoiMeasured(SessionMessage):
    """The regions of interest in one volume; comes before the volume's other figures and betas."""

    type: Literal["roi.measured"] = "roi.measured"
    run: int
    index: int
    at_s: float = Field(description="when the volume began, seconds of the run")
    censored: bool
    rois: tuple[RoiValue, ...]


class SpaceKnown(SessionMessage):
    """The space in which the session's voxels are: of its bundle, or of its first volume."""

    type: Literal["space.known"] = "space.known"
    shape: tuple[int, int, int]
    n_voxels: int = Field(description="in the mask; betas have one value for each, in C order of the grid")
    reference: Digest = Field(description="the reference, as a volume")
    mask: Digest = Field(description="the mask, as a volume of 0 and 1")


class BetaReady(SessionMessage):
    type: Literal["beta.ready"] = "beta.ready"
    run: int
    trial: int
    stage: Stage
    n_volumes: int = Field(description="volumes of the run that the estimate uses")
    n_voxels: int
    flagged: bool = Field(description="something of the trial's response is lacking, see flagged_by")
    flagged_by: tuple[Literal["motion", "spike", "pose", "missing", "early", "registration"], ...] = Field(
        default=(),
        description="why: motion, spike, pose: a volume of its response was censored; missing: a volume is; early: the"
        " run began or ended inside the response; registration: the run could not be registered",
    )
    beta: Digest
    standard_error: float | None = Field(
        default=None, description="of the beta, median over voxels, in the beta's units; None: unknown"
    )
    standard_errors: Digest | None = Field(default=None, description="(V,) float32 per voxel; only for final betas")
    statistics: Digest | None = Field(
        default=None, description="(2, V) float32, mean and standard deviation for z-scoring; None: those of the bundle"
    )
    n_run: int = Field(default=0, ge=0, description="betas of the run so far")
    latency_ms: StageLatency = StageLatency()
