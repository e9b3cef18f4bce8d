"""Ordered, numbered, idempotent logs over Redis streams.

Knows nothing of what the payloads mean. Entries are numbered 1, 2, 3, ... without a gap; each has a key that is
written once. All that an append checks and writes happens in one Lua script, so that a retry after a lost reply finds
its own entry, and a writer that lost its lease is refused at the moment of writing.

A log to which nothing will be added can be sealed: its entries then lie on the disk (``mindsight.bus.sealed``), and are
read, found and recognised as before.

Keys of a session share a hash tag, ``s:{session}:...``, so that a Redis Cluster keeps them on one node and a script may
use them together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindsight.bus.connection import Bus, Script
from mindsight.bus.sealed import SealedEntry, SealedLog
from mindsight.bus.servers import MAX_BLOCK_S, Argument
from mindsight.errors import Conflict, Diverged, LeaseLost, MindsightError, OutOfOrder
from mindsight.files.digest import sha256_of

# KEYS: stream, hash of written keys (key -> "seq identity"), hash of counters, the fence
# ARGV: key, identity, payload, token or "", counter or "", index, trait or "", how many keys must be there, those, and
# those that must not be there
# A counter's trait is kept beside it as "index trait": of the first entry that had one.
APPEND = Script("""
local key, identity, payload, token, counter, trait = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[7]
if redis.call('HEXISTS', KEYS[3], '#sealed') == 1 then
  return {'SEALED'}
end
if token ~= '' and (redis.call('GET', KEYS[4]) or '0') ~= token then
  return {'FENCED'}
end
local first = trait ~= '' and redis.call('HGET', KEYS[3], counter .. ':trait')
if first then
  local space = string.find(first, ' ', 1, true)
  if tonumber(ARGV[6]) > tonumber(string.sub(first, 1, space - 1)) and string.sub(first, space + 1) ~= trait then
    return {'UNLIKE', string.sub(first, space + 1)}
  end
end
local function reply(status, seq)
  return {status, seq, counter == '' and 0 or tonumber(redis.call('HGET', KEYS[3], counter) or '0')}
end
local written = redis.call('HGET', KEYS[2], key)
if written then
  local space = string.find(written, ' ', 1, true)
  if string.sub(written, space + 1) == identity then
    return reply('DUPLICATE', tonumber(string.sub(written, 1, space - 1)))
  end
  return {'DIVERGED'}
end
local last_required = 8 + tonumber(ARGV[8])
for i = 9, #ARGV do
  local present = redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1
  if present ~= (i <= last_required) then
    return {'CONDITION', ARGV[i], present and 1 or 0}
  end
end
if counter ~= '' then
  local expected = redis.call('HGET', KEYS[3], counter) or '0'
  if expected ~= ARGV[6] then
    return {'ORDER', tonumber(expected)}
  end
  redis.call('HINCRBY', KEYS[3], counter, 1)
  if trait ~= '' and not first then redis.call('HSET', KEYS[3], counter .. ':trait', ARGV[6] .. ' ' .. trait) end
end
local seq = redis.call('HINCRBY', KEYS[3], '#', 1)
redis.call('XADD', KEYS[1], seq .. '-0', 'k', key, 'p', payload)
redis.call('HSET', KEYS[2], key, seq .. ' ' .. identity)
return reply('OK', seq)
""")

# KEYS: stream, hash of written keys, hash of counters; ARGV: how many entries are asked for, their keys, the counters
_LOOK = Script("""
local entries, counters = {}, {}
for i = 2, #ARGV do
  if i <= 1 + tonumber(ARGV[1]) then
    local written = redis.call('HGET', KEYS[2], ARGV[i])
    local id = written and string.sub(written, 1, string.find(written, ' ', 1, true) - 1) .. '-0'
    entries[#entries + 1] = id and redis.call('XRANGE', KEYS[1], id, id)[1] or false
  else
    counters[#counters + 1] = tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '0')
  end
end
return {entries, counters}
""")

# KEYS: stream, hash of written keys, hash of counters; ARGV: number of the last entry that is on the disk
_SEAL = Script("""
if (redis.call('HGET', KEYS[3], '#') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[3], '#sealed', ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2])
return 1
""")


_LOOK_S = 0.02  # a page is drawn as often


class ConditionFailed(Conflict):
    """An append's condition does not hold: ``key`` is in the log (``present``) and must not be, or the other way."""

    code = "log.condition"

    def __init__(self, key: str, *, present: bool) -> None:
        super().__init__(f"the log {'already holds' if present else 'does not hold'} {key!r}")
        self.key = key
        self.present = present


class Unlike(Conflict):
    """An entry lacks the trait that the first of its counter has: ``expected``."""

    code = "log.unlike"

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected!r}, as the first entry of this counter has it, got {got!r}")
        self.expected = expected


@dataclass(frozen=True)
class Fence:
    """A lease's token: writes that carry it are refused as soon as another holder has taken the lease."""

    session: str
    token: int


@dataclass(frozen=True)
class Appended:
    """The entry's number in the log, whether it was there before, and its counter's next index (0: no counter)."""

    seq: int
    duplicate: bool
    next_index: int = 0


@dataclass(frozen=True)
class Entry:
    """One entry of a log."""

    seq: int
    key: str
    payload: bytes


@dataclass(frozen=True)
class Log:
    """One log of one session; ``name`` is ``"input"`` or ``"messages"``."""

    bus: Bus
    session: str
    name: str

    def append(
        self,
        key: str,
        payload: bytes,
        *,
        identity: str | None = None,
        order: tuple[str, int] | None = None,
        trait: str | None = None,
        fence: Fence | None = None,
        requires: Sequence[str] = (),
        unless: Sequence[str] = (),
    ) -> Appended:
        """Write one entry, once: it is in the log when this returns.

        key : names the entry; the same key with the same identity is a duplicate, and changes nothing
        identity : what makes two entries the same; by default the payload's sha256
        order : counter and index; the index must be the counter's (0 for the first), which then moves on by one
        trait : what all entries of a counter share with the first one that has a trait (a run's volumes: their shape)
        fence : of the lease on this log's session under which the caller writes
        requires, unless : keys that must, and must not, be in the log

        Duplicates are recognised before the conditions are checked: an entry that was accepted stays accepted.

        Raises LeaseLost, Unlike, Diverged (same key, other identity), ConditionFailed, OutOfOrder
        (``details["expected_index"]``), BusUnavailable, StorageFull. After BusUnavailable the entry may or may not be
        there; append it again. When the bus's disk fills up, Redis reports it one write late: an entry is known to be
        on the disk once a later write has succeeded. (The gateway's message after each input is such a write.)
        """
        if fence is not None and fence.session != self.session:
            raise ValueError(f"expected a fence of {self.session!r}, got one of {fence.session!r}")
        identity = sha256_of(payload) if identity is None else identity
        reply = append_entry(
            self.bus,
            [self._key("log"), self._key("keys"), self._key("order"), fence_key(self.session)],
            key,
            payload,
            identity,
            order,
            fence,
            [*_counted(requires), *unless],
            trait or "",
        )
        if reply[0] == b"UNLIKE":
            raise Unlike(reply[1].decode(), trait or "")
        if reply[0] == b"SEALED":
            return self._found_sealed(key, identity, order, requires, unless)
        return appended_from(reply, key)

    def read(self, after: int = 0, limit: int = 1000) -> list[Entry]:
        """The entries from number ``after + 1``, at most ``limit``."""
        reply = self.bus.command("XRANGE", self._key("log"), f"{after + 1}-0", "+", "COUNT", limit)
        if not reply and (sealed := self._sealed()) is not None:
            found = sealed.entries[after : after + limit]
            return [Entry(number, entry.key, entry.payload) for number, entry in enumerate(found, after + 1)]
        return [_entry(item) for item in reply]

    def find(self, key: str) -> Entry | None:
        """The entry with this key."""
        return self.look([key])[0][0]

    def look(self, keys: Sequence[str], counters: Sequence[str] = ()) -> tuple[list[Entry | None], list[int]]:
        """The entries with these keys, and these counters' values, read together in one round trip."""
        where = [self._key("log"), self._key("keys"), self._key("order")]
        entries, indices = self.bus.run(_LOOK, where, [*_counted(keys), *counters])
        found = [None if item is None else _entry(item) for item in entries]
        if None in found and (sealed := self._sealed()) is not None:
            found = [item or _sealed_entry(sealed, key) for item, key in zip(found, keys, strict=True)]
        return found, [int(index) for index in indices]

    def last_seq(self) -> int:
        """Number of the last entry; 0 if there is none."""
        return int(self.bus.command("HGET", self._key("order"), "#") or 0)

    def next_index(self, counter: str) -> int:
        """The index that an append with ``order=(counter, index)`` must carry now."""
        return int(self.bus.command("HGET", self._key("order"), counter) or 0)

    def seal(self) -> bool:
        """Move the entries to the disk: nothing can be added afterwards. Sealing it again changes nothing.

        False if something was added meanwhile, or nothing is there, as after an erasure. Raises BusUnavailable,
        StorageFull; the log is then what it was.
        """
        where = [self._key("log"), self._key("keys"), self._key("order")]
        if self.bus.sealed is None or self.bus.command("HEXISTS", where[2], "#sealed"):
            return True
        written = self.bus.command("HGETALL", where[1])
        pairs = zip(written[::2], written[1::2], strict=True)
        identities = {key.decode(): value.split(b" ", 1)[1].decode() for key, value in pairs}
        entries: list[Entry] = []
        while page := self.read(len(entries)):
            entries += page
        if not entries or any(entry.key not in identities for entry in entries):
            return False
        log = SealedLog(tuple(SealedEntry(entry.key, identities[entry.key], entry.payload) for entry in entries))
        self.bus.sealed.write(self.session, self.name, log)
        return bool(self.bus.run(_SEAL, where, [len(entries)]))

    @staticmethod
    def sealed_of(bus: Bus, logs: Sequence[Log]) -> list[bool]:
        """Whether each log is sealed, in one round trip for each server."""
        return [bool(found) for found in bus.commands([("HEXISTS", log._key("order"), "#sealed") for log in logs])]

    def _sealed(self) -> SealedLog | None:
        return None if self.bus.sealed is None else self.bus.sealed.get(self.session, self.name)

    def _found_sealed(
        self, key: str, identity: str, order: tuple[str, int] | None, requires: Sequence[str], unless: Sequence[str]
    ) -> Appended:
        """What an append to a sealed log comes to: the entry is there, or is refused as the script would."""
        sealed = self._sealed()
        if sealed is None:
            raise Conflict(
                "expected the sealed log on this machine's disk, got none: share the data folder", code="log.away"
            )
        if (number := sealed.numbers.get(key)) is not None:
            if sealed.entries[number - 1].identity != identity:
                raise _diverged(key)
            return Appended(number, True, 0 if order is None else self.next_index(order[0]))
        for condition in (*requires, *unless):
            if (condition in sealed.numbers) is not (condition in requires):
                raise ConditionFailed(condition, present=condition in sealed.numbers)
        raise Conflict(
            "expected a log that is still written, got a sealed one: its session is archived", code="log.sealed"
        )

    def _key(self, kind: str) -> str:
        return f"s:{{{self.session}}}:{self.name}:{kind}"


def read_many(after: Mapping[Log, int], block_s: float, limit: int = 1000) -> dict[Log, list[Entry]]:
    """New entries of several logs of one bus, after the number given for each; waits up to ``block_s`` for the first.

    Returns only logs that have new entries; an empty dict means the time passed. ``block_s`` is at most MAX_BLOCK_S.
    """
    if not 0 < block_s <= MAX_BLOCK_S:
        raise ValueError(f"expected 0 < block_s <= {MAX_BLOCK_S:g}, got {block_s!r}")
    by_key = {log._key("log"): log for log in after}
    bus = next(iter(after)).bus
    since = dict(zip(by_key, (f"{seq}-0" for seq in after.values()), strict=True))
    if len({bus.slot(key) for key in by_key}) > 1:
        reply = _look_at_each(bus, since, block_s, limit)
    else:
        read: list[Argument] = ["XREAD", "COUNT", limit, "BLOCK", max(1, round(block_s * 1000)), "STREAMS"]
        reply = bus.command(*read, *since, *since.values(), block_s=block_s) or []
    return {by_key[name.decode()]: [_entry(item) for item in items] for name, items in reply}


def _look_at_each(bus: Bus, since: Mapping[str, str], block_s: float, limit: int) -> list[Any]:
    """No command waits for streams of several slots."""
    until_s = time.monotonic() + block_s
    while True:
        replies = bus.commands([("XREAD", "COUNT", limit, "STREAMS", key, after) for key, after in since.items()])
        if (found := [item for reply in replies for item in reply or []]) or time.monotonic() >= until_s:
            return found
        time.sleep(_LOOK_S)


def fence_key(session: str) -> str:
    return f"s:{{{session}}}:fence"


def append_entry(
    bus: Bus,
    keys: list[str],
    key: str,
    payload: bytes,
    identity: str,
    order: tuple[str, int] | None,
    fence: Fence | None,
    conditions: list[Argument],
    trait: str = "",
) -> list[Any]:
    counter, index = order if order is not None else ("", 0)
    token = "" if fence is None else str(fence.token)
    given: list[Argument] = [key, identity, payload, token, counter, index, trait, *(conditions or [0])]
    reply: list[Any] = bus.run(APPEND, keys, given)
    return reply


def appended_from(reply: list[Any], key: str) -> Appended:
    """The script's reply as a value, or as the error that it means."""
    status = reply[0].decode()
    if status in ("OK", "DUPLICATE"):
        return Appended(seq=int(reply[1]), duplicate=status == "DUPLICATE", next_index=int(reply[2]))
    errors: dict[str, MindsightError] = {
        "FENCED": LeaseLost("another worker holds this session now; stop writing to it"),
        "DIVERGED": _diverged(key),
    }
    if status == "ORDER":
        expected = int(reply[1])
        raise OutOfOrder(f"expected index {expected} next, got {key!r}", expected_index=expected)
    if status == "CONDITION":
        raise ConditionFailed(reply[1].decode(), present=bool(reply[2]))
    raise errors[status]


def _sealed_entry(sealed: SealedLog, key: str) -> Entry | None:
    number = sealed.numbers.get(key)
    return None if number is None else Entry(number, key, sealed.entries[number - 1].payload)


def _diverged(key: str) -> Diverged:
    return Diverged(f"{key!r} is in the log with other content; it is never overwritten", key=key)


def _counted(keys: Sequence[str]) -> list[Argument]:
    return [len(keys), *keys]


def _entry(item: list[Any]) -> Entry:
    name, fields = item
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(seq=int(name.split(b"-", 1)[0]), key=values[b"k"].decode(), payload=values[b"p"])
