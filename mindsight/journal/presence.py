"""Which workers are there: each writes a line about itself every few seconds.

Knows nothing of what they do. A worker that ended without a word is missing after SILENT_S.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mindsight.bus import Bus

BEAT_S, SILENT_S = 2.0, 10.0
FORGOTTEN_S = 3600.0
_SEEN = "workers:{all}:seen"


class Worker(BaseModel):
    """One worker process, as it was when it last wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(description="machine and number of its process")
    kind: str = Field(description="ingest, inference, jobs or traces")
    version: str = Field(description="of Mindsight")
    about: str = Field(default="", description="where it computes")
    started_t: float = Field(description="seconds since the Unix epoch")
    seen_t: float = Field(description="when it last wrote, seconds since the Unix epoch, by its own clock")


@dataclass(frozen=True)
class Presence:
    """The workers of one bus."""

    bus: Bus

    def beat(self, worker: Worker) -> None:
        """Write that the worker is there."""
        self.bus.command("HSET", _SEEN, worker.name, worker.model_dump_json())

    def leave(self, name: str) -> None:
        self.bus.command("HDEL", _SEEN, name)

    def list(self, now: float) -> list[Worker]:
        """Those that are there, and those that fell silent within the last hour; older ones are removed."""
        reply = self.bus.command("HGETALL", _SEEN)
        found: list[Worker] = []
        for name, payload in zip(reply[::2], reply[1::2], strict=True):
            worker = _read(payload)
            if worker is None or now - worker.seen_t > FORGOTTEN_S:
                self.bus.command("HDEL", _SEEN, name)
            else:
                found.append(worker)
        return sorted(found, key=lambda worker: (worker.kind, worker.name))


def _read(payload: bytes) -> Worker | None:
    try:
        return Worker.model_validate_json(payload)
    except ValidationError:  # of a later version
        return None
