"""Inputs of a session that no worker can carry out: each is skipped for good, with its reason.

Knows nothing of what inputs mean, or of how a worker found out.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.bus.connection import Bus, Script
from mindsight.bus.log import Fence, fence_key
from mindsight.errors import LeaseLost

# KEYS: quarantine, fence; ARGV: token, number of the entry, reason
_ADD = Script("""
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
return 1
""")


@dataclass(frozen=True)
class Quarantine:
    """Of one session's input log, whose entries are named by their number."""

    bus: Bus
    session: str

    def read(self) -> dict[int, str]:
        """The entries that are skipped, and why."""
        reply = self.bus.command("HGETALL", self._key)
        return {int(seq): reason.decode() for seq, reason in zip(reply[::2], reply[1::2], strict=True)}

    def add(self, seq: int, reason: str, fence: Fence) -> None:
        """Skip an entry from now on; the first reason stands. Raises LeaseLost."""
        if not self.bus.run(_ADD, [self._key, fence_key(self.session)], [fence.token, seq, reason]):
            raise LeaseLost("another worker holds this session now; stop writing to it")

    @property
    def _key(self) -> str:
        return f"s:{{{self.session}}}:input:quarantine"
