"""Removing a session from the bus for good: its keys, its jobs in every queue, and what the file on the disk holds.

Knows nothing of what was stored. The rest of the room never removes anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mindsight.bus.connection import Bus, Script
from mindsight.bus.queue import GROUP, WorkQueue

_COMPACT_S, _LOOK_S = 120.0, 0.1

# KEYS: jobs; ARGV: group, 1 if those that a worker holds go too, ids. How many a worker holds.
_WITHDRAW = Script("""
local n_held = 0
for i = 3, #ARGV do
  local found = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  local held = not found.err and #found > 0
  if held then n_held = n_held + 1 end
  if not held or ARGV[2] == '1' then redis.call('XDEL', KEYS[1], ARGV[i]) end
end
return n_held
""")


def forget_logs(bus: Bus, name: str) -> None:
    """Remove the logs, leases and fences under this name, sealed logs included."""
    if bus.sealed is not None:
        bus.sealed.forget(name)
    keys = [key for key in bus.all_keys() if key.startswith(f"s:{{{name}}}:".encode())]
    if keys:
        bus.command("DEL", *keys)


def forget_jobs(bus: Bus, queue: str, is_wanted: Callable[[str], bool], *, held: bool) -> int:
    """Remove the jobs whose key is wanted: waiting, dead, and that they were ever put; how many workers hold.

    held : also remove those. Their workers do not know of it, and finish them
    """
    log, dead, put = (f"q:{{{queue}}}:{name}" for name in ("log", "dead", "keys"))
    wanted = _wanted(bus, log, is_wanted)
    n_held = int(bus.run(_WITHDRAW, [log], [GROUP, int(held), *wanted])) if wanted else 0
    for id_ in _wanted(bus, dead, is_wanted):
        bus.command("XDEL", dead, id_)
    fields = [field for field in bus.command("HKEYS", put) if is_wanted(field.decode())]
    if fields:
        bus.command("HDEL", put, *fields)
    return n_held


def forget_holder(bus: Bus, queue: str, session: str) -> None:
    """Take no more jobs of this session under any fence."""
    bus.command("DEL", WorkQueue(bus, queue).fence_key(session))


def mentions(bus: Bus, has: Callable[[bytes], bool]) -> list[str]:
    """Keys whose name, fields or values ``has`` finds something in; all of the bus is read."""
    return [key.decode(errors="replace") for key in bus.all_keys() if has(key) or any(map(has, _values(bus, key)))]


def compact(bus: Bus) -> None:
    """Let every server, replicas too, write its append-only file again without what was removed; waits until it has."""
    bus.each("BGREWRITEAOF", replicas=True)  # refused by one that is about to
    until_s = time.monotonic() + _COMPACT_S
    while time.monotonic() < until_s:
        found = bus.each("INFO", "persistence", replicas=True)
        if all(b"aof_rewrite_in_progress:0" in info and b"aof_rewrite_scheduled:0" in info for info in found):
            return
        time.sleep(_LOOK_S)


def _wanted(bus: Bus, stream: str, is_wanted: Callable[[str], bool]) -> list[bytes]:
    """Ids of the jobs whose key is wanted."""
    found = bus.command("XRANGE", stream, "-", "+")
    entries = ((id_, dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in found)
    return [id_ for id_, values in entries if is_wanted(values[b"k"].decode())]


def _values(bus: Bus, key: bytes) -> Iterator[bytes]:
    kind = bus.command("TYPE", key)
    if kind == b"string":
        yield bus.command("GET", key) or b""
    elif kind == b"hash":
        yield from bus.command("HGETALL", key)
    elif kind == b"set":
        yield from bus.command("SMEMBERS", key)
    elif kind == b"stream":
        after = b"-"
        while page := bus.command("XRANGE", key, after, "+", "COUNT", 1000):
            for _, fields in page:
                yield from fields
            after = b"(" + page[-1][0]
