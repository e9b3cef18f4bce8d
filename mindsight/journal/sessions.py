"""The list of sessions: what each was opened with, and its state.

Knows nothing of what happens in a session: its logs hold that. The list may be one step behind them. A laboratory has
had thousands of sessions after some years, and workers look several times a second: what they ask for is found without
reading all of the list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mindsight.bus import Log
from mindsight.bus.connection import Bus, Script
from mindsight.errors import Conflict, NotFound
from mindsight.protocol.inputs import SessionOptions
from mindsight.volume_bounds import MAX_TR_S, MIN_TR_S

_RECORDS = "sessions:{all}:records"
_STATES = "sessions:{all}:states"
_BUNDLES = "sessions:{all}:bundles"
_BLINDED = "sessions:{all}:blinded"
_CURRENT = "sessions:{all}:current"  # a set; the logs of all others are sealed
_PAGE = 1000

_CREATE = Script("""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then return found end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], 'open')
redis.call('SADD', KEYS[3], ARGV[1])
return ARGV[2]
""")

_ADVANCE = Script("""
local rank = {open = 1, closed = 2, archived = 3}
local state = redis.call('HGET', KEYS[1], ARGV[1])
if not state then return 0 end
if rank[ARGV[2]] > rank[state] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
""")

# KEYS: states, current; ARGV: sessions. One that was erased meanwhile is left out.
_LIST = Script("""
for _, session in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], session) == 1 then redis.call('SADD', KEYS[2], session) end
end
return 1
""")

# KEYS: states, current; ARGV: session. One that is not archived stays.
_SETTLE = Script("""
if redis.call('HGET', KEYS[1], ARGV[1]) ~= 'archived' then return 0 end
return redis.call('SREM', KEYS[2], ARGV[1])
""")

# KEYS: records, states, bundles, blinded, current; ARGV: session. At once: who finds it in one finds it in all.
_FORGET = Script("""
for i = 1, 4 do redis.call('HDEL', KEYS[i], ARGV[1]) end
return redis.call('SREM', KEYS[5], ARGV[1])
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
        written = _read(self.bus.run(_CREATE, [_RECORDS, _STATES, _CURRENT], [record.session, payload]))
        if written.model_copy(update={"opened_t": record.opened_t}) != record.model_copy(update={"state": "open"}):
            raise Conflict(
                "a session of this name was opened with other settings; choose another name", code="session.exists"
            )
        return self.get(record.session)

    def get(self, session: str) -> SessionRecord:
        """Raises NotFound, Conflict (``session.unreadable``: of another version of Mindsight)."""
        payload, state, bundle, blinded = (
            self.bus.command("HGET", name, session) for name in (_RECORDS, _STATES, _BUNDLES, _BLINDED)
        )
        if payload is None or state is None:
            raise NotFound("there is no such session", code="session.unknown")
        return _record(payload, state, bundle, blinded)

    def has(self, session: str) -> bool:
        return bool(self.bus.command("HEXISTS", _STATES, session))

    def set_bundle(self, session: str, bundle: str) -> None:
        """The bundle that decodes the session from now on."""
        self.bus.command("HSET", _BUNDLES, session, bundle)

    def set_blinded(self, session: str, blinded: bool, number: int) -> None:
        """Whether what was shown is hidden. number : of the instruction in the input log; an older one has no effect"""
        self.bus.run(_BLIND, [_BLINDED], [session, number, int(blinded)])

    def list(self, *, subject: str | None = None, newest: int | None = None) -> list[SessionRecord]:
        """All sessions, or those of one subject, or the ``newest`` of these, in the order in which they were opened.

        Here and in ``unfinished`` one that another version of Mindsight wrote, and this one cannot read, is left out.
        """
        reply = self.bus.command("HGETALL", _RECORDS)
        payloads = dict(zip(reply[::2], reply[1::2], strict=True))
        opened = {name: json.loads(payload) for name, payload in payloads.items()}  # checked where it is returned
        wanted = [name for name, given in opened.items() if subject in (None, given.get("subject"))]
        wanted.sort(key=lambda name: (opened[name].get("opened_t", 0.0), name))
        names = wanted[-newest if newest else None :]
        columns = self.bus.commands([("HMGET", key, *names) for key in (_STATES, _BUNDLES, _BLINDED)]) if names else []
        rows = zip(names, *columns, strict=True)
        return list(_readable((payloads[name], *row) for name, *row in rows if row[0] is not None))

    def names(self) -> set[str]:
        """Of all sessions, also those of other versions."""
        return {name.decode() for name in self.bus.command("HKEYS", _STATES)}

    def unfinished(self) -> tuple[SessionRecord, ...]:
        """All sessions that are not archived, in no order."""
        rows = self._current(_RECORDS, _BUNDLES, _BLINDED)
        return tuple(
            _readable(
                (payload, state, bundle, blinded)
                for _, state, payload, bundle, blinded in rows
                if payload is not None and state != b"archived"
            )
        )

    def unsealed(self) -> set[str]:
        """Names of archived sessions whose logs may still be on the bus."""
        return {name.decode() for name, state in self._current() if state == b"archived"}

    def settle(self, session: str) -> None:
        """The logs of this session, which is archived, are sealed."""
        self.bus.run(_SETTLE, [_STATES, _CURRENT], [session])

    def find_unlisted(self) -> None:
        """Find what ``unfinished`` and ``unsealed`` lack: sessions that an older version opened or archived.

        Reads all of the list, page by page.
        """
        cursor: Any = b"0"
        while True:
            cursor, found = self.bus.command("HSCAN", _STATES, cursor, "COUNT", _PAGE)
            states = dict(zip(found[::2], found[1::2], strict=True))
            archived = [name for name, state in states.items() if state == b"archived"]
            sealed = Log.sealed_of(self.bus, [Log(self.bus, name.decode(), "messages") for name in archived])
            settled = {name for name, is_sealed in zip(archived, sealed, strict=True) if is_sealed}
            self.bus.run(_LIST, [_STATES, _CURRENT], [name for name in states if name not in settled])
            if int(cursor) == 0:
                return

    def bundles_in_use(self) -> set[str]:
        """Of all sessions that are not archived: bundles that they were opened with, and that replaced these.

        Raises Conflict (``session.unreadable``).
        """
        found = [row for row in self._current(_RECORDS, _BUNDLES) if row[1] != b"archived"]
        opened = {_read(payload).bundle for _, _, payload, _ in found if payload}
        now = {bundle.decode() for *_, bundle in found if bundle}
        return {bundle for bundle in opened | now if bundle is not None}

    def _current(self, *others: str) -> Iterator[tuple[Any, ...]]:
        """Of the sessions that are not archived, or were not long ago: name, state, and what these hashes have."""
        names = self.bus.command("SMEMBERS", _CURRENT)
        columns = self.bus.commands([("HMGET", key, *names) for key in (_STATES, *others)]) if names else []
        return (row for row in zip(names, *columns, strict=True) if row[1] is not None)

    def forget(self, session: str) -> None:
        """Remove the session from the list. Its logs are not touched."""
        self.bus.run(_FORGET, [_RECORDS, _STATES, _BUNDLES, _BLINDED, _CURRENT], [session])

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
    return _read(payload).model_copy(update=now)


def _read(payload: bytes | str) -> SessionRecord:
    try:
        return SessionRecord.model_validate_json(payload)
    except ValidationError:
        raise Conflict(
            "this session is of another version of Mindsight, which alone can read it: install that version",
            code="session.unreadable",
        ) from None


def _readable(rows: Iterable[tuple[Any, ...]]) -> Iterator[SessionRecord]:
    for row in rows:
        with suppress(Conflict):
            yield _record(*row)
