"""What is asked about one voxel, and the answer. Knows nothing of how either travels."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class VoxelQuestion(_Frozen):
    """voxel : index on the grid of the session's reference"""

    run: int = Field(ge=1, le=9999)
    voxel: tuple[int, int, int]
    trial: int | None = None


class VoxelCourse(_Frozen):
    """A voxel's data and fit over the run so far, one value per volume, in units of the voxel values."""

    run: int
    voxel: tuple[int, int, int] = Field(description="index on the grid of the session's reference")
    trial: int | None = Field(default=None, description="whose design is fitted; null: one response to all events")
    in_mask: bool = Field(description="whether the voxel is analysed; if not, there are no data")
    data: tuple[float, ...] = Field(default=(), description="measured, after realignment")
    fit: tuple[float, ...] = Field(default=(), description="of the model behind the betas: events, drifts, motion")
    error: tuple[float, ...] | None = Field(
        default=None, description="standard error of the fit; its 95 % band is 1.96 of it; null: too few volumes"
    )
    excluded: tuple[int, ...] = Field(default=(), description="volumes that the fit leaves out")
