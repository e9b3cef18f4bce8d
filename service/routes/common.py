"""What several resources share: the parameters of their addresses, and what every body is. No behaviour."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict

SESSION_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_RUN = 9999

SessionId = Annotated[str, Path(pattern=SESSION_PATTERN, description="the session's id")]
RunNumber = Annotated[int, Path(ge=1, le=MAX_RUN, description="the run's number, from 1")]
VolumeIndex = Annotated[int, Path(ge=0, description="the volume's index in its run, from 0")]


class Body(BaseModel):
    """A JSON body of a response: fields that are not known here are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Sent(Body):
    """A JSON body of a request: true is no number, and "1" is none."""

    model_config = ConfigDict(strict=True)
