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
from mindsight.volume_bounds import MAX_TR_S, MIN_TR_S

_RECORDS = "sessions:{all}:records"
_STATES = "sessions:{all}:states"
_BUNDLES = "sessions:{all}:bundles"
_BLINDED = "sessions:{all}:blinded"

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


# KEYS: blinded; ARGV: session, number in the input log, 0 or 1. The instruction that was logged last counts.
_BLIND = Script("""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found and tonumber(string.match(found, '^%d+')) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1
""")


class Protocol(BaseModel):
    """What is planned for a session's runs, for those who start them. Nothing is decoded by it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = Field(default="view", pattern=r"^[A-Za-z0-9]{1,64}$", description="as in BIDS: letters and digits")
    tr_s: float = Field(ge=MIN_TR_S, lt=MAX_TR_S, description="repetition time, s")
    n_volumes: int | None = Field(default=None, ge=1, le=100_000, description="of each run; null: not known")
    n_runs: int | None = Field(default=None, ge=1, le=100, description="planned runs; null: not known")


class SessionRecord(BaseModel):
    """What a session was opened with, and its state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: str
    subject: str
    bundle: str | None = Field(default=None, description="that decodes it; the latest, if it was replaced meanwhile")
    options: SessionOptions = SessionOptions()
    protocol: Protocol | None = Field(default=None, description="what is planned; null: not stated")
    opened_t: float
    state: Literal["open", "closed", "archived"] = "open"
    blinded: bool | None = Field(
        default=None,
        description="whether what was shown is hidden now; null: as in the options",
    )

    @property
    def hides_truth(self) -> bool:
        """Until it is closed, what was shown in a blinded session is sent to nobody."""
        blinded = self.options.blinded if self.blinded is None else self.blinded
        return blinded and self.state == "open"


@dataclass(frozen=True)
class Sessions:
    """The sessions of one bus."""

    bus: Bus

    def create(self, record: SessionRecord) -> SessionRecord:
        """Write the record once; a repeat returns the first, whose time stays. Raises Conflict for other settings."""
        payload = record.model_dump_json(exclude={"state", "blinded"})
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
        payload, state, bundle, blinded = (
            self.bus.command("HGET", name, session) for name in (_RECORDS, _STATES, _BUNDLES, _BLINDED)
        )
        if payload is None or state is None:
            raise NotFound("there is no such session", code="session.unknown")
        return _record(payload, state, bundle, blinded)

    def set_bundle(self, session: str, bundle: str) -> None:
        """The bundle that decodes the session from now on."""
        self.bus.command("HSET", _BUNDLES, session, bundle)

    def set_blinded(self, session: str, blinded: bool, number: int) -> None:
        """Whether what was shown is hidden. number : of the instruction in the input log; an older one has no effect"""
        self.bus.run(_BLIND, [_BLINDED], [session, number, int(blinded)])

    def list(self) -> list[SessionRecord]:
        """All sessions, in the order in which they were opened."""
        states, records, bundles, blinded = map(self._all, (_STATES, _RECORDS, _BUNDLES, _BLINDED))
        found = [
            _record(payload, states[session], bundles.get(session), blinded.get(session))
            for session, payload in records.items()
            if session in states
        ]
        return sorted(found, key=lambda record: (record.opened_t, record.session))

    def unfinished(self) -> tuple[SessionRecord, ...]:
        """All sessions that are not archived, in no order."""
        states = {name: state for name, state in self._all(_STATES).items() if state != b"archived"}
        payloads = self.bus.command("HMGET", _RECORDS, *states) if states else []
        bundles, blinded = (self._all(_BUNDLES), self._all(_BLINDED)) if states else ({}, {})
        return tuple(
            _record(payload, state, bundles.get(name), blinded.get(name))
            for payload, (name, state) in zip(payloads, states.items(), strict=True)
            if payload is not None
        )

    def archived(self) -> set[str]:
        """Names of all sessions that are archived."""
        return {name.decode() for name, state in self._all(_STATES).items() if state == b"archived"}

    def bundles_in_use(self) -> set[str]:
        """Of all sessions that are not archived: bundles that they were opened with, and that replaced these."""
        names = [name for name, state in self._all(_STATES).items() if state != b"archived"]
        payloads = self.bus.command("HMGET", _RECORDS, *names) if names else []
        opened = {SessionRecord.model_validate_json(payload).bundle for payload in payloads if payload is not None}
        now = {bundle.decode() for name, bundle in self._all(_BUNDLES).items() if name in set(names)}
        return {bundle for bundle in opened | now if bundle is not None}

    def _all(self, name: str) -> dict[bytes, bytes]:
        reply = self.bus.command("HGETALL", name)
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def forget(self, session: str) -> None:
        """Remove the session from the list. Its logs are not touched."""
        for name in (_RECORDS, _STATES, _BUNDLES, _BLINDED):
            self.bus.command("HDEL", name, session)

    def advance(self, session: str, state: Literal["closed", "archived"]) -> None:
        """Move the session on to ``state``; it never goes back. Raises NotFound."""
        if not self.bus.run(_ADVANCE, [_STATES], [session, state]):
            raise NotFound("there is no such session", code="session.unknown")


def _record(payload: bytes, state: bytes, bundle: bytes | None, blinded: bytes | None) -> SessionRecord:
    now: dict[str, str | bool] = {"state": state.decode()}
    if bundle is not None:
        now["bundle"] = bundle.decode()
    if blinded is not None:
        now["blinded"] = blinded.endswith(b" 1")
    return SessionRecord.model_validate_json(payload).model_copy(update=now)
