"""Regions of interest on the wire. Knows nothing of messages or inputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

RoiName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RoiBaseline(_Frozen):
    """The volumes that a region's percent signal change is relative to; excluded volumes never count.

    Events count from 5 s after their onset until 5 s after their end, as the response does.
    """

    kind: Literal["rest", "seconds", "label"] = Field(
        default="rest", description="rest: volumes in no event; seconds: a time of the run; label: events of a kind"
    )
    from_s: float = Field(default=0.0, ge=0, le=86_400, description="seconds: begin, of the run")
    until_s: float = Field(default=0.0, ge=0, le=86_400, description="seconds: end, of the run")
    label: str | None = Field(
        default=None, max_length=200, description="TRUTH: label: trial_type of the baseline's events"
    )

    @model_validator(mode="after")
    def _check(self) -> RoiBaseline:
        if self.kind == "seconds" and not self.from_s < self.until_s:
            raise PydanticCustomError("baseline", "expected from_s before until_s")
        if self.kind != "label" and self.label is not None:
            raise PydanticCustomError("baseline", "expected a label with the kind 'label' only")
        return self

    def without_truth(self) -> RoiBaseline:
        """For a blinded view."""
        return self.model_copy(update={"label": None})


class RoiValue(_Frozen):
    """One region of interest in one volume."""

    name: RoiName
    mean: float = Field(description="over its voxels after realignment, in units of the voxel values")
    percent: float | None = Field(
        default=None, description="change from the baseline's mean so far, %; None before there is one"
    )
    n_voxels: int = Field(description="voxels of the region in the session's mask")
