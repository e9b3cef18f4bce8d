"""What every message has. Knows nothing of what it tells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION: Literal[1] = 1
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the content, hexadecimal")]


class Frozen(BaseModel):
    """A value on the wire, with no field that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SessionMessage(Frozen):
    """What a message of a session's log has beside what it tells."""

    v: Literal[1] = VERSION
    id: int = Field(default=0, ge=0, description="number in the session's log, from 1; 0 before it is written")
    session: str
    t: float = Field(description="when it was written, seconds since the Unix epoch")


class StageLatency(Frozen):
    """Milliseconds that each stage of a volume or a result took. Stages that did not happen are absent."""

    receive: float | None = Field(default=None, description="gateway: from the first byte until durable")
    queue: float | None = Field(default=None, description="from the acknowledgement until the ingest worker took it")
    motion: float | None = None
    glm: float | None = None
    estimate: float | None = Field(default=None, description="computing all betas that were due with the volume")
    beta: float | None = Field(default=None, description="from the volume's acknowledgement until the beta was logged")
    decode: float | None = Field(default=None, description="z-scoring and decoder")
    retrieve: float | None = None
    retrieval: float | None = Field(default=None, description="from logging the beta until logging the result")
    preview: float | None = Field(default=None, description="computing the preview of a reconstruction")
    generate: float | None = Field(default=None, description="computing a reconstruction, its preview included")
    refine: float | None = Field(default=None, description="refining a reconstruction")
    reconstruction: float | None = Field(
        default=None, description="from logging the beta until logging this version of its reconstruction"
    )
    embed: float | None = Field(default=None, description="the encoder, which measures a reconstruction's fit")
