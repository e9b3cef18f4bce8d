"""The list of jobs: what each is to do, its state, and its log of messages.

Knows nothing of how a job is carried out. A job's state follows the table ``JOB``; every change is one script on the
bus, so that two requests, or a request and a worker, never both succeed where only one may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import ValidationError

from mindsight.bus import Bus, Fence, Log, WorkQueue
from mindsight.bus.connection import Script
from mindsight.bus.forget import compact, forget_logs
from mindsight.errors import Conflict, LeaseLost, NotFound
from mindsight.journal.read import entries
from mindsight.protocol.jobs import (
    ErasureTask,
    JobEnded,
    JobMessage,
    JobRecord,
    Outcome,
    State,
    dump_job_message,
    parse_job_message,
)

QUEUE = "jobs"
STALE_S = 10.0  # after this, the jobs of a worker that died go to another

JobEvent: TypeAlias = Literal["begin", "cancel", "done", "fail", "stop", "resume"]

# The state after each event; an event that is not listed is refused in that state.
JOB: Mapping[State, Mapping[JobEvent, State]] = {
    "queued": {"begin": "running", "cancel": "cancelled", "fail": "failed"},
    "running": {"begin": "running", "cancel": "cancelling", "done": "done", "fail": "failed"},
    "cancelling": {"cancel": "cancelling", "done": "done", "fail": "failed", "stop": "cancelled"},
    "done": {},
    "failed": {"resume": "queued"},
    "cancelled": {"cancel": "cancelled", "resume": "queued"},
}
FINISHED: frozenset[State] = frozenset({"done", "failed", "cancelled"})
_OUTCOME: Mapping[Outcome, JobEvent] = {"done": "done", "failed": "fail", "cancelled": "stop"}

_RECORDS, _STATES, _ATTEMPTS, _HOLDERS, _TOKENS = (
    f"jobs:{{all}}:{name}" for name in ("records", "states", "attempts", "holders", "tokens")
)

# KEYS: records, states, attempts, holders; ARGV: job, record, what it holds
_CREATE = Script("""
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then return {'FOUND', found} end
local holder = redis.call('HGET', KEYS[4], ARGV[3])
if holder then return {'HELD', holder} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], 'queued')
redis.call('HSET', KEYS[3], ARGV[1], 1)
redis.call('HSET', KEYS[4], ARGV[3], ARGV[1])
return {'FOUND', ARGV[2]}
""")

# KEYS: states, attempts, holders, tokens; ARGV: job, what it holds, token or "", then pairs: state, the state after it
# What a job holds is free once it is finished, and taken again when it is resumed. The first thing that a holder of its
# lease does is such a step, whose token is kept here: earlier holders are refused from then on. (The fence itself may
# lie on another server.)
_ADVANCE = Script("""
local state = redis.call('HGET', KEYS[1], ARGV[1])
if not state then return {'UNKNOWN'} end
if ARGV[3] ~= '' then
  if tonumber(redis.call('HGET', KEYS[4], ARGV[1]) or '0') > tonumber(ARGV[3]) then return {'FENCED'} end
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
end
for i = 4, #ARGV, 2 do
  if ARGV[i] == state then
    local after = ARGV[i + 1]
    if after == 'queued' then
      local holder = redis.call('HGET', KEYS[3], ARGV[2])
      if holder and holder ~= ARGV[1] then return {'HELD', holder} end
      redis.call('HSET', KEYS[3], ARGV[2], ARGV[1])
      redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
    elseif (after == 'done' or after == 'failed' or after == 'cancelled')
      and redis.call('HGET', KEYS[3], ARGV[2]) == ARGV[1] then
      redis.call('HDEL', KEYS[3], ARGV[2])
    end
    redis.call('HSET', KEYS[1], ARGV[1], after)
    return {'OK', after}
  end
end
return {'REFUSED', state}
""")


@dataclass(frozen=True)
class Jobs:
    """The jobs of one bus. ``now`` : seconds since the Unix epoch."""

    bus: Bus
    now: Callable[[], float]

    @property
    def queue(self) -> WorkQueue:
        return WorkQueue(self.bus, QUEUE, stale_s=STALE_S)

    def create(self, record: JobRecord) -> JobRecord:
        """Write the job and queue it. A repeat with the same id and task changes nothing.

        Raises Conflict: ``job.exists`` for the same id with another task, ``job.busy`` while another job works on the
        same subject or pool (``details["job"]``).
        """
        status, text = self.bus.run(
            _CREATE,
            [_RECORDS, _STATES, _ATTEMPTS, _HOLDERS],
            [record.job, record.model_dump_json(exclude={"state", "attempt"}), record.exclusive],
        )
        if status == b"HELD":
            raise _busy(record.exclusive, text.decode())
        written = _read(text)
        if written.task != record.task:
            raise Conflict("a job of this name was created for something else; choose another name", code="job.exists")
        found = self.get(record.job)
        self.enqueue(found)
        return found

    def enqueue(self, record: JobRecord) -> None:
        """Put a job that waits into the queue. Repeating it changes nothing."""
        if record.state == "queued":
            self.queue.put(f"{record.job}-{record.attempt}", record.job.encode())

    def get(self, job: str) -> JobRecord:
        """Raises NotFound, Conflict (``job.unreadable``: of another version of Mindsight)."""
        payload = self.bus.command("HGET", _RECORDS, job)
        state = self.bus.command("HGET", _STATES, job)
        attempt = self.bus.command("HGET", _ATTEMPTS, job)
        if payload is None or state is None:
            raise _unknown()
        return _record(payload, state, attempt)

    def has(self, job: str) -> bool:
        return bool(self.bus.command("HEXISTS", _STATES, job))

    def holder(self, exclusive: str) -> str | None:
        """The unfinished job that works on this subject or pool, see ``JobRecord.exclusive``."""
        found = self.bus.command("HGET", _HOLDERS, exclusive)
        return None if found is None else found.decode()

    def unfinished(self) -> list[JobRecord]:
        """All jobs that are not finished, in no order: each holds a subject or a pool.

        Here and in ``list`` one that another version of Mindsight wrote, and this one cannot read, is left out.
        """
        found = []
        for job in self.bus.command("HVALS", _HOLDERS):
            with suppress(NotFound, Conflict):  # it was finished and erased meanwhile, or cannot be read
                found.append(self.get(job.decode()))
        return [record for record in found if record.state not in FINISHED]

    def begin(self, record: JobRecord, fence: Fence) -> State:
        return self._advance(record, "begin", fence)

    def cancel(self, job: str) -> JobRecord:
        """Cancel a job that is not finished; a worker stops it soon. Repeating it changes nothing.

        Raises NotFound, Conflict (``job.finished``).
        """
        record = self.get(job)
        if self._advance(record, "cancel") == "cancelled" and record.state == "queued":
            self._report(record, "cancelled", None, "cancelled before it began", None)
        return self.get(job)

    def resume(self, job: str) -> JobRecord:
        """Queue a job again that failed or was cancelled; it goes on from what it has.

        Raises NotFound, Conflict (``job.state``, ``job.busy``).
        """
        self._advance(self.get(job), "resume")
        record = self.get(job)
        self.enqueue(record)
        return record

    def finish(
        self, record: JobRecord, outcome: Outcome, text: str, code: str | None = None, fence: Fence | None = None
    ) -> None:
        """The message first, then the state: who sees a finished job finds how it ended. Repeating it is harmless."""
        self._report(record, outcome, code, text, fence)
        self._advance(record, _OUTCOME[outcome], fence)

    def forget(self, record: JobRecord) -> None:
        """Remove a finished job and its log."""
        for name in (_RECORDS, _STATES, _ATTEMPTS, _TOKENS):
            self.bus.command("HDEL", name, record.job)
        forget_logs(self.bus, log_name(record.job))

    def redact(self, record: JobRecord) -> None:
        """Leave out of a finished erasure whom it erased."""
        blank = record.model_copy(update={"task": ErasureTask(subject="")})
        self.bus.command("HSET", _RECORDS, record.job, blank.model_dump_json(exclude={"state", "attempt"}))
        compact(self.bus)

    def log(self, job: str) -> Log:
        return Log(self.bus, log_name(job), "messages")

    def messages(self, job: str, after: int = 0) -> Iterator[JobMessage]:
        """Those after number ``after``."""
        return (parse_job_message(entry.payload, entry.seq) for entry in entries(self.log(job), after))

    def page(self, job: str, after: int, limit: int) -> list[JobMessage]:
        """At most ``limit`` of them."""
        return [parse_job_message(entry.payload, entry.seq) for entry in self.log(job).read(after, limit)]

    def _report(self, record: JobRecord, outcome: Outcome, code: str | None, text: str, fence: Fence | None) -> None:
        message = JobEnded(job=record.job, t=self.now(), outcome=outcome, code=code, text=text)
        key = f"ended-{record.attempt}"
        self.log(record.job).append(key, dump_job_message(message), identity=key, fence=fence)

    def _advance(self, record: JobRecord, event: JobEvent, fence: Fence | None = None) -> State:
        allowed = [text for before, row in JOB.items() if event in row for text in (before, row[event])]
        token = "" if fence is None else str(fence.token)
        status, *rest = self.bus.run(
            _ADVANCE,
            [_STATES, _ATTEMPTS, _HOLDERS, _TOKENS],
            [record.job, record.exclusive, token, *allowed],
        )
        if status == b"OK":
            state: State = rest[0].decode()
            return state
        if status == b"UNKNOWN":
            raise _unknown()
        if status == b"FENCED":
            raise LeaseLost("another worker carries out this job now; stop writing to it")
        if status == b"HELD":
            raise _busy(record.exclusive, rest[0].decode())
        state_text = rest[0].decode()
        if event == "cancel":
            raise Conflict(f"the job is {state_text}; there is nothing to cancel", code="job.finished")
        raise Conflict(f"expected a job that failed or was cancelled, got one that is {state_text}", code="job.state")

    def list(self) -> list[JobRecord]:
        """All of them, in the order in which they were created."""
        states, attempts, records = (
            dict(zip(reply[::2], reply[1::2], strict=True))
            for reply in (self.bus.command("HGETALL", name) for name in (_STATES, _ATTEMPTS, _RECORDS))
        )
        found = []
        for job, state in states.items():
            with suppress(Conflict):
                if job in records:
                    found.append(_record(records[job], state, attempts.get(job)))
        return sorted(found, key=lambda record: (record.created_t, record.job))


def log_name(job: str) -> str:
    """The name of a job's log and lease, which no session has."""
    return f"job:{job}"


def _record(payload: bytes, state: bytes, attempt: bytes | None) -> JobRecord:
    return _read(payload).model_copy(update={"state": state.decode(), "attempt": int(attempt or 1)})


def _read(payload: bytes) -> JobRecord:
    try:
        return JobRecord.model_validate_json(payload)
    except ValidationError:
        raise Conflict(
            "this job is of another version of Mindsight, which alone can read it: install that version",
            code="job.unreadable",
        ) from None


def _unknown() -> NotFound:
    return NotFound("there is no such job", code="job.unknown")


def _busy(exclusive: str, job: str) -> Conflict:
    return Conflict(
        f"expected no other job on {exclusive}, {job} is at work: wait for it, or cancel it", code="job.busy", job=job
    )
