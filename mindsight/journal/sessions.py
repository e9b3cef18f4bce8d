"""The list of sessions: what each was opened with, and its state.

Knows nothing of what happens in a session: its logs hold that. The list may be one step behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mindsight.bus.connection import Bus, Script
from mindsight.errors import Conflict, NotFound
from mindsight.protocol.inputs import SessionOptions

_RECORDS = "sessions:{all}:records"
_STATES = "sessions:{all}:states"
_BUNDLES = "sessions:{all}:bundles"

_CREATE = Script("""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then return found end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], 'open')
return ARGV[2]
""")

_ADVANCE = Script("""
local rank = {open = 1, closed = 2, archived = 3}
local state = redis.call('HGET', KEYS[1], ARGV[1])
if not state then return 0 end
if rank[ARGV[2]] > rank[state] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
""")


class SessionRecord(BaseModel):
    """What a session was opened with, and its state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: str
    subject: str
    bundle: str | None = Field(default=None, description="that decodes it; the latest, if it was replaced meanwhile")
    options: SessionOptions = SessionOptions()
    opened_t: float
    state: Literal["open", "closed", "archived"] = "open"


@dataclass(frozen=True)
class Sessions:
    """The sessions of one bus."""

    bus: Bus

    def create(self, record: SessionRecord) -> SessionRecord:
        """Write the record once; a repeat returns the first, whose time stays. Raises Conflict for other settings."""
        payload = record.model_dump_json(exclude={"state"})
        written = SessionRecord.model_validate_json(
            self.bus.run(_CREATE, [_RECORDS, _STATES], [record.session, payload])
        )
        if written.model_copy(update={"opened_t": record.opened_t}) != record.model_copy(update={"state": "open"}):
            raise Conflict(
                "a session of this name was opened with other settings; choose another name", code="session.exists"
            )
        return self.get(record.session)

    def get(self, session: str) -> SessionRecord:
        """Raises NotFound."""
        payload = self.bus.command("HGET", _RECORDS, session)
        state = self.bus.command("HGET", _STATES, session)
        if payload is None or state is None:
            raise NotFound("there is no such session", code="session.unknown")
        return _record(payload, state, self.bus.command("HGET", _BUNDLES, session))

    def set_bundle(self, session: str, bundle: str) -> None:
        """The bundle that decodes the session from now on."""
        self.bus.command("HSET", _BUNDLES, session, bundle)

    def list(self) -> list[SessionRecord]:
        """All sessions, in the order in which they were opened."""
        reply = self.bus.command("HGETALL", _STATES)
        states = dict(zip(reply[::2], reply[1::2], strict=True))
        reply, bundles = self.bus.command("HGETALL", _RECORDS), self._bundles()
        records = [
            _record(payload, states[session], bundles.get(session))
            for session, payload in zip(reply[::2], reply[1::2], strict=True)
            if session in states
        ]
        return sorted(records, key=lambda record: (record.opened_t, record.session))

    def unfinished(self) -> tuple[SessionRecord, ...]:
        """All sessions that are not archived, in no order."""
        reply = self.bus.command("HGETALL", _STATES)
        states = {name: state for name, state in zip(reply[::2], reply[1::2], strict=True) if state != b"archived"}
        payloads = self.bus.command("HMGET", _RECORDS, *states) if states else []
        bundles = self._bundles() if states else {}
        return tuple(
            _record(payload, state, bundles.get(name))
            for payload, (name, state) in zip(payloads, states.items(), strict=True)
            if payload is not None
        )

    def bundles_in_use(self) -> set[str]:
        """Of all sessions that are not archived: bundles that they were opened with, and that replaced these."""
        reply = self.bus.command("HGETALL", _STATES)
        names = [name for name, state in zip(reply[::2], reply[1::2], strict=True) if state != b"archived"]
        payloads = self.bus.command("HMGET", _RECORDS, *names) if names else []
        opened = {SessionRecord.model_validate_json(payload).bundle for payload in payloads if payload is not None}
        now = {bundle.decode() for name, bundle in self._bundles().items() if name in set(names)}
        return {bundle for bundle in opened | now if bundle is not None}

    def _bundles(self) -> dict[bytes, bytes]:
        reply = self.bus.command("HGETALL", _BUNDLES)
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def forget(self, session: str) -> None:
        """Remove the session from the list. Its logs are not touched."""
        for name in (_RECORDS, _STATES, _BUNDLES):
            self.bus.command("HDEL", name, session)

    def advance(self, session: str, state: Literal["closed", "archived"]) -> None:
        """Move the session on to ``state``; it never goes back. Raises NotFound."""
        if not self.bus.run(_ADVANCE, [_STATES], [session, state]):
            raise NotFound("there is no such session", code="session.unknown")


def _record(payload: bytes, state: bytes, bundle: bytes | None) -> SessionRecord:
    now: dict[str, str] = {"state": state.decode()}
    if bundle is not None:
        now["bundle"] = bundle.decode()
    return SessionRecord.model_validate_json(payload).model_copy(update=now)
