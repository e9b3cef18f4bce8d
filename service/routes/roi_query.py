"""What every request for a region of interest has: its name, the mask as its body, and what it is relative to."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query

from mindsight.protocol.rois import RoiBaseline
from service import rois

_BINARY = {"schema": {"type": "string", "format": "binary"}}
BINARY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}}
RoiNamed = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", description="as it is shown, e.g. left-amygdala")
]


class _Baseline:
    """The baseline as it was asked for; it is checked once the body was read, so that the sender reads the answer."""

    def __init__(
        self,
        baseline: Annotated[str, Query(pattern="^(rest|seconds|label)$", description="kind of baseline")] = "rest",
        from_s: Annotated[float, Query(ge=0, le=86_400, description="kind seconds: begin, of the run")] = 0.0,
        until_s: Annotated[float, Query(ge=0, le=86_400, description="kind seconds: end, of the run")] = 0.0,
        label: Annotated[str | None, Query(max_length=200, description="kind label: trial_type of its events")] = None,
    ) -> None:
        self._asked = baseline, from_s, until_s, label

    def checked(self) -> RoiBaseline:
        """Raises BadRequest (``roi.baseline``)."""
        return rois.baseline_of(*self._asked)


BaselineQuery = Annotated[_Baseline, Depends()]
