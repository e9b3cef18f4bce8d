"""A work queue over one Redis stream and its consumer group: every job is done at least once, by any one worker.

Knows nothing of what the jobs are. A result must be written under a key, so that a job done twice leaves one result.
Jobs have no order: a worker takes the next one (``take``), or looks at those that wait and claims the one that it
prefers (``waiting``, ``claim``). All workers of a queue do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis

from mindsight.bus.connection import Bus, Script
from mindsight.bus.log import Appended, Fence, append_entry, appended_from, fence_key
from mindsight.bus.servers import MAX_BLOCK_S, Argument
from mindsight.errors import LeaseLost
from mindsight.files.digest import sha256_of

T = TypeVar("T")

MAX_DELIVERIES = 3
GROUP = "workers"

# KEYS: the fence of a session at this queue; ARGV: token. Holders are admitted in their order, or not at all.
_ADMIT = Script("""
if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
""")

# KEYS, ARGV: as above
_WITHDRAW = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")

_ACK = Script("""
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
""")

# KEYS: jobs, dead; ARGV: group, id, key, payload, reason
# The dead letter has a number of its own: jobs are not refused in the order in which they were put, and a stream takes
# no number below its last. XDEL gives 1 once, so that a repeat buries nothing twice.
_BURY = Script("""
if redis.call('XDEL', KEYS[1], ARGV[2]) == 1 then
  redis.call('XADD', KEYS[2], '*', 'k', ARGV[3], 'p', ARGV[4], 'reason', ARGV[5])
end
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
""")

# KEYS: jobs; ARGV: group, consumer, id, how long another may hold it in ms
# Nothing was delivered by reading, so that the group knows only of jobs that were claimed.
_CLAIM = Script("""
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if held and held[2] ~= ARGV[2] and held[3] < tonumber(ARGV[4]) then return false end
local deliveries = held and held[4] + 1 or 1
return redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', deliveries, 'FORCE')[1] or false
""")


@dataclass(frozen=True)
class DeadJob:
    """A job that will not be tried again, and why."""

    key: str
    payload: bytes
    reason: str


@dataclass(frozen=True)
class WaitingJob:
    """A job that a worker may claim."""

    seq: int
    key: str
    payload: bytes


@dataclass(frozen=True)
class Job:
    """One job that a worker holds: ``ack`` it when its result is written, ``reject`` it, or ``release`` it."""

    queue: WorkQueue
    seq: int
    key: str
    payload: bytes
    deliveries: int

    def ack(self) -> None:
        """Mark the job as done; it will not be delivered again."""
        self.queue.bus.run(_ACK, [self.queue._key("log")], [GROUP, f"{self.seq}-0"])

    def reject(self, reason: str) -> None:
        """Move the job to the dead letters: it cannot be done."""
        keys = [self.queue._key("log"), self.queue._key("dead")]
        self.queue.bus.run(_BURY, keys, [GROUP, f"{self.seq}-0", self.key, self.payload, reason])

    def hold(self, consumer: str, *, anew: bool) -> None:
        """Go on holding a job that takes long, so that no other consumer takes it over.

        anew : count its deliveries from one again, since there was progress
        """
        count: list[Argument] = ["RETRYCOUNT", 1] if anew else []
        where: list[Argument] = [self.queue._key("log"), GROUP, consumer, 0, f"{self.seq}-0"]
        self.queue.bus.command("XCLAIM", *where, *count, "JUSTID")

    def release(self) -> None:
        """Let the job wait again, as if it had never been claimed."""
        self.queue.bus.command("XACK", self.queue._key("log"), GROUP, f"{self.seq}-0")


@dataclass(frozen=True)
class WorkQueue:
    """One queue. ``stale_s`` : how long a worker may hold a job before another one takes it over."""

    bus: Bus
    name: str
    stale_s: float = 30.0

    def admit(self, fence: Fence) -> None:
        """From now on take this session's jobs under this fence only. Its holder calls it before it reads anything of
        the session: what an earlier holder adds until then is what it finds. Raises LeaseLost if there is a later one.
        """
        at_queue: tuple[list[str], list[Argument]] = [self.fence_key(fence.session)], [fence.token]
        admitted = self.bus.run(_ADMIT, *at_queue)
        # A holder that was paused on its way here may come when the session is done and its fence at the queue removed.
        if admitted and self.bus.command("GET", fence_key(fence.session)) == str(fence.token).encode():
            return
        self.bus.run(_WITHDRAW, *at_queue)
        raise LeaseLost("another worker holds this session now; stop writing to it")

    def put(self, key: str, payload: bytes, identity: str | None = None, fence: Fence | None = None) -> Appended:
        """Queue a job, once per key, even if it was done long ago. Raises Diverged, LeaseLost as ``Log.append``.

        fence : of a lease that was admitted (``admit``)
        """
        identity = sha256_of(payload) if identity is None else identity
        fenced = self.fence_key(fence.session if fence else "")
        keys = [self._key("log"), self._key("keys"), self._key("order"), fenced]
        return appended_from(append_entry(self.bus, keys, key, payload, identity, None, fence, []), key)

    def take(self, consumer: str, block_s: float) -> Job | None:
        """The next job, or None after ``block_s`` (at most MAX_BLOCK_S).

        First the jobs that this consumer took and did not acknowledge (it was killed, or failed), then those that other
        consumers have held for ``stale_s``, then new ones. A job delivered more than MAX_DELIVERIES times goes to the
        dead letters. A consumer takes one job at a time: acknowledge it before the next ``take``.
        """
        if not 0 < block_s <= MAX_BLOCK_S:
            raise ValueError(f"expected 0 < block_s <= {MAX_BLOCK_S:g}, got {block_s!r}")
        return self._in_group(lambda: self._take(consumer, block_s))

    def waiting(self, consumer: str, limit: int = 1000) -> list[WaitingJob]:
        """The jobs that this consumer may claim, the last that was put first: those that none holds, that it holds
        itself (it failed on them), or that another has held for ``stale_s``. At most the last ``limit`` are looked at.
        """
        return self._in_group(lambda: self._waiting(consumer, limit))

    def claim(self, job: WaitingJob, consumer: str) -> Job | None:
        """Hold a job that waits. None if another consumer was faster, or if it was delivered too often (``take``)."""
        stale_ms = round(self.stale_s * 1000)
        item = self._in_group(
            lambda: self.bus.run(_CLAIM, [self._key("log")], [GROUP, consumer, f"{job.seq}-0", stale_ms])
        )
        return self._job(item) if item else None

    def last_put(self) -> int:
        """Number of the last job that was put; 0 if there is none."""
        return int(self.bus.command("HGET", self._key("order"), "#") or 0)

    def await_new(self, after: int, block_s: float) -> None:
        """Return when a job with a number above ``after`` is there, or after ``block_s`` (at most MAX_BLOCK_S)."""
        block: list[Argument] = ["COUNT", 1, "BLOCK", max(1, round(block_s * 1000))]
        self.bus.command("XREAD", *block, "STREAMS", self._key("log"), f"{after}-0", block_s=block_s)

    def were_put(self, keys: Sequence[str]) -> list[bool]:
        """Whether jobs with these keys were ever put, be they done or not."""
        return [found is not None for found in self.bus.command("HMGET", self._key("keys"), *keys)] if keys else []

    def __len__(self) -> int:
        """Number of jobs that are not done: waiting, or taken by a worker."""
        return int(self.bus.command("XLEN", self._key("log")))

    def unfinished(self, limit: int = 10_000) -> list[bytes]:
        """Payloads of the jobs that are not done, whoever holds them; at most the first ``limit``."""
        reply = self.bus.command("XRANGE", self._key("log"), "-", "+", "COUNT", limit)
        return [dict(zip(fields[::2], fields[1::2], strict=True))[b"p"] for _, fields in reply]

    def dead(self, limit: int = 1000) -> list[DeadJob]:
        """The dead letters, oldest first."""
        reply = self.bus.command("XRANGE", self._key("dead"), "-", "+", "COUNT", limit)
        values = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in reply]
        return [DeadJob(v[b"k"].decode(), v[b"p"], v[b"reason"].decode()) for v in values]

    def n_dead(self) -> int:
        """Number of dead letters."""
        return int(self.bus.command("XLEN", self._key("dead")))

    def _in_group(self, work: Callable[[], T]) -> T:
        """Create the group of consumers where there is none yet."""
        try:
            return work()
        except redis.exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):  # a script adds its own words around it
                raise
            self._create_group()
            return work()

    def _waiting(self, consumer: str, limit: int) -> list[WaitingJob]:
        stream = self._key("log")
        pending = self.bus.command("XPENDING", stream, GROUP, "-", "+", limit)
        stale_ms = round(self.stale_s * 1000)
        held = {name for name, by, idle_ms, _ in pending if by != consumer.encode() and idle_ms < stale_ms}
        found = []
        for name, fields in self.bus.command("XREVRANGE", stream, "+", "-", "COUNT", limit):
            if name not in held:
                values = dict(zip(fields[::2], fields[1::2], strict=True))
                found.append(WaitingJob(int(name.split(b"-", 1)[0]), values[b"k"].decode(), values[b"p"]))
        return found

    def _take(self, consumer: str, block_s: float) -> Job | None:
        stream = self._key("log")
        read: list[Argument] = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1]
        while own := self.bus.command(*read, "STREAMS", stream, "0"):
            items = own[0][1]
            if not items:
                break
            if job := self._job(items[0]):
                return job
        while True:
            stale_ms = round(self.stale_s * 1000)
            stale = self.bus.command("XAUTOCLAIM", stream, GROUP, consumer, stale_ms, "0-0", "COUNT", 1)[1]
            if not stale:
                break
            if job := self._job(stale[0]):
                return job
        block: list[Argument] = ["BLOCK", max(1, round(block_s * 1000))]
        new = self.bus.command(*read, *block, "STREAMS", stream, ">", block_s=block_s)
        return self._job(new[0][1][0]) if new else None

    def _job(self, item: list[Any]) -> Job | None:
        """The job as delivered; None if it was delivered too often and has moved to the dead letters."""
        name, fields = item
        if fields is None:  # acknowledged by another consumer in the meantime
            self.bus.command("XACK", self._key("log"), GROUP, name)
            return None
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        pending = self.bus.command("XPENDING", self._key("log"), GROUP, name, name, 1)
        deliveries = int(pending[0][3]) if pending else 1
        job = Job(self, int(name.split(b"-", 1)[0]), values[b"k"].decode(), values[b"p"], deliveries)
        if deliveries > MAX_DELIVERIES:
            job.reject(f"delivered {MAX_DELIVERIES} times and never acknowledged: its workers died or failed on it")
            return None
        return job

    def _create_group(self) -> None:
        try:
            # From 0, not from the end: jobs put before the first worker started count too.
            self.bus.command("XGROUP", "CREATE", self._key("log"), GROUP, "0", "MKSTREAM")
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def fence_key(self, session: str) -> str:
        """The queue's own copy of a session's fence: one script reaches one hash slot of a Redis Cluster."""
        return f"{self._key('fence')}:{session}"

    def _key(self, kind: str) -> str:
        return f"q:{{{self.name}}}:{kind}"
