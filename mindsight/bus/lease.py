"""Leases: at most one worker writes to a session; writes of one that lost its lease are refused, even late ones.

Knows nothing of what the worker does. The reason for the token: Kleppmann, "How to do distributed locking" (2016): a
lease by time alone cannot stop a holder that was paused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mindsight.bus.connection import Bus, Script
from mindsight.bus.log import Fence, fence_key
from mindsight.errors import LeaseLost

# KEYS: lease, fence. The fence is the token of the last holder; a lease's value is its token and its holder. Tokens are
# milliseconds, and go up: where a replica takes over that had not heard of the last holder, the next one has another.
# ARGV: holder, milliseconds, the value that may be replaced
_ACQUIRE = Script("""
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then return held end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = string.format('%.0f', math.max(now, (redis.call('GET', KEYS[2]) or 0) + 1))
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
return tonumber(token)
""")

# A lease that expired is renewed as long as no other holder has taken it: the token is then still the last one.
_RENEW = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return 1
""")

_RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] .. ' ' .. ARGV[2] then redis.call('DEL', KEYS[1]) end
return 1
""")


@dataclass(frozen=True)
class Lease:
    """The right to write to one session, for ``ttl_s`` from the last ``renew``."""

    bus: Bus
    session: str
    holder: str
    ttl_s: float
    fence: Fence

    @classmethod
    def acquire(
        cls, bus: Bus, session: str, holder: str, ttl_s: float, is_gone: Callable[[str], bool] = lambda _: False
    ) -> Lease | None:
        """The lease, or None while another holder has it.

        holder : a name for logs; it need not be unique
        is_gone : whether a holder is known to have ended, so that its lease need not run out first. A wrong answer does
            no harm: what a holder that was replaced still writes is refused
        """
        reply = bus.run(_ACQUIRE, _keys(session), [holder, _milliseconds(ttl_s), ""])
        if isinstance(reply, bytes) and is_gone(reply.decode().split(" ", 1)[1]):
            reply = bus.run(_ACQUIRE, _keys(session), [holder, _milliseconds(ttl_s), reply])
        return None if isinstance(reply, bytes) else cls(bus, session, holder, ttl_s, Fence(session, int(reply)))

    @staticmethod
    def holders(bus: Bus, sessions: Sequence[str]) -> list[str | None]:
        """Who has each session's lease, None for one that is free, in one round trip for each server."""
        held = bus.commands([("GET", _keys(session)[0]) for session in sessions])
        return [None if value is None else value.decode().split(" ", 1)[1] for value in held]

    def renew(self) -> None:
        """Hold it for another ``ttl_s``. Raises LeaseLost once another holder has taken it."""
        if not self.bus.run(_RENEW, _keys(self.session), [self.fence.token, self.holder, _milliseconds(self.ttl_s)]):
            raise LeaseLost("another worker holds this session now; stop writing to it")

    def release(self) -> None:
        """Give the lease back, so that the next worker need not wait until it expires; no effect if it was lost."""
        self.bus.run(_RELEASE, _keys(self.session), [self.fence.token, self.holder])


def _keys(session: str) -> list[str]:
    return [f"s:{{{session}}}:lease", fence_key(session)]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
