"""What a live stream carries beside a session's messages: the tick, and lanes of which only the newest item counts.

A session's messages come in order, each once, as text frames. A lane's items are large and soon out of date (pictures,
volumes): a client asks for lanes with ``Want``, and gets of each the newest item there is whenever it can take one, as
a binary frame: four bytes (big-endian) with the length of a ``LatestHeader`` as JSON, the header, the payload.
Knows nothing of how frames travel.
"""

from __future__ import annotations

import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Lane = Literal["pictures", "volumes", "betas"]

_LENGTH = struct.Struct(">I")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lags(_Frozen):
    """What waits in the service now. Whatever grows shows which part falls behind."""

    volumes: int | None = Field(
        default=None, description="volumes of this session that are received and not processed; null: not known yet"
    )
    betas: int = Field(default=0, ge=0, description="betas of all sessions that wait for a result")
    pictures: int = Field(default=0, ge=0, description="reconstructions of all sessions that wait to be drawn")
    refinements: int = Field(default=0, ge=0, description="reconstructions of all sessions that wait to be refined")


class Tick(_Frozen):
    """Comes every two seconds, so that silence means a broken connection. It is no message of the log: it has no id."""

    type: Literal["tick"] = Field(default="tick", description="always tick")
    t: float = Field(description="the service's clock, seconds since the Unix epoch")
    last: int = Field(ge=0, description="number of the session's last message")
    behind: int = Field(ge=0, description="messages that exist and were not sent to this client yet")
    lags: Lags = Field(default=Lags(), description="what waits in the service")


class Want(_Frozen):
    """What a client sends to get lanes: from now on these, and no other."""

    type: Literal["want"] = Field(default="want", description="always want")
    lanes: tuple[Lane, ...] = Field(max_length=8, description="the lanes that are wanted from now on; none: []")


class LatestHeader(_Frozen):
    """What a lane's item is. Items that a newer one replaced before they could be sent are never sent."""

    lane: Lane = Field(description="the lane that it came on")
    message: int = Field(ge=1, description="id of the session's message that it belongs to")
    t: float = Field(description="when it was made ready, seconds since the Unix epoch")
    media_type: str = Field(description="of the payload, e.g. image/png")
    details: dict[str, str | int | float | list[int] | list[float] | None] = Field(
        default={}, description="what the lane's payload needs to be read, such as its shape"
    )


def pack_frame(header: BaseModel, payload: bytes) -> bytes:
    """A binary frame: the header's length, the header, the payload."""
    head = header.model_dump_json(exclude_none=True).encode()
    return b"".join((_LENGTH.pack(len(head)), head, payload))


def unpack_latest(frame: bytes) -> tuple[LatestHeader, bytes]:
    """The header and the payload of a lane's binary frame. Raises ValueError for one that is none."""
    if len(frame) < _LENGTH.size or len(frame) < _LENGTH.size + _LENGTH.unpack_from(frame)[0]:
        raise ValueError("expected a frame with a header and a payload, got fewer bytes")
    end = _LENGTH.size + _LENGTH.unpack_from(frame)[0]
    return LatestHeader.model_validate_json(frame[_LENGTH.size : end]), frame[end:]
