"""Responses that were given to requests with an idempotency key: a repeat gets the same one, and changes nothing.

Knows nothing of HTTP beyond a status and a body. They are kept for a day; an erasure forgets them all, since they may
name whom it erased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from mindsight.bus.connection import Bus, Script
from mindsight.errors import Conflict
from mindsight.processes import is_gone, process_name

KEPT_S = 86_400.0
UNDERWAY_S = 60.0  # a request that takes longer, or whose gateway died elsewhere, may be made again
MOST = 10_000

_KEY = "replies:{all}"

# KEYS: hash of records; ARGV: name, fresh record, time before which a record is forgotten, how many are kept
_BEGIN = Script("""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then return found end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if cjson.decode(all[i + 1]).t < tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false
""")

# KEYS: hash of records; ARGV: name, the record that is out of date: another one may have begun anew meanwhile
_DROP = Script("""
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
""")


class Reply(BaseModel):
    """A request's response. ``status`` 0: the request is underway, in the process ``by``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    t: float
    request: str
    by: str = ""
    status: int = 0
    body: str = ""


@dataclass(frozen=True)
class Replies:
    """The replies of one bus. ``now`` : seconds since the Unix epoch.

    What could not be written because the bus was away is known to this process all the same.
    """

    bus: Bus
    now: Callable[[], float]
    _underway: set[str] = field(default_factory=set)
    _unwritten: dict[str, Reply] = field(default_factory=dict)

    def begin(self, name: str, request: str) -> Reply | None:
        """The reply to an earlier request of this name; None if there is none, and then ``finish`` or ``give_up``.

        request : digest of what is asked for

        Raises Conflict: ``request.other`` if the name stands for another request, ``request.underway`` if the first one
        is not done yet.
        """
        fresh = Reply(t=self.now(), request=request, by=process_name())
        if (unwritten := self._unwritten.get(name)) is not None:
            self._write(name, unwritten)
        while True:
            written = self.bus.run(_BEGIN, [_KEY], [name, fresh.model_dump_json(), fresh.t - KEPT_S, MOST])
            if written is None:
                self._underway.add(name)
                return None
            reply = Reply.model_validate_json(written)
            ended = reply.status == 0 and self._is_over(name, reply.by)
            if not ended and reply.t >= fresh.t - (UNDERWAY_S if reply.status == 0 else KEPT_S):
                break
            self.bus.run(_DROP, [_KEY], [name, written])
        if reply.request != request:
            raise Conflict(
                "expected the request that this idempotency key was first used for, got another: use a new key",
                code="request.other",
            )
        if reply.status == 0:
            raise Conflict("the same request is underway: wait a second, and repeat it", code="request.underway")
        return reply

    def _is_over(self, name: str, by: str) -> bool:
        """Whether the gateway was killed while it carried the request out, or this one could not give it up."""
        return is_gone(by) or (by == process_name() and name not in self._underway)

    def finish(self, name: str, request: str, status: int, body: str) -> None:
        """Keep the response of a request that was carried out."""
        self._unwritten[name] = Reply(t=self.now(), request=request, status=status, body=body)
        self._underway.discard(name)
        self._write(name, self._unwritten[name])

    def _write(self, name: str, reply: Reply) -> None:
        self.bus.command("HSET", _KEY, name, reply.model_dump_json())
        self._unwritten.pop(name, None)

    def give_up(self, name: str) -> None:
        """The request was refused or failed: a repeat is a new try."""
        self._underway.discard(name)
        self.bus.command("HDEL", _KEY, name)

    def forget(self) -> None:
        """Forget all of them."""
        self._unwritten.clear()
        self.bus.command("DEL", _KEY)
