"""What is told to a session: every declaration goes into the input log first, then into the message log.

Knows nothing of HTTP. Both writes are idempotent, so that a retry after a crash between them completes the second. The
input log itself is the state: whether a session is closed or a run has ended is a condition of each append.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mindsight.bus import Appended, Bus, ConditionFailed, Log
from mindsight.errors import BadRequest, BadVolume, Conflict, Diverged, MindsightError, NotFound
from mindsight.events import EARLIEST_S, in_model_time
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol import (
    EventAdded,
    LimitsChanged,
    Message,
    RunEnded,
    RunStarted,
    SessionClosed,
    SessionOpened,
    StageLatency,
    VolumeMissing,
    VolumeReceived,
    Warned,
    dump_message,
)
from mindsight.protocol.inputs import (
    CLOSED_KEY,
    SESSION_KEY,
    AddEvent,
    CloseSession,
    EndRun,
    Input,
    OpenSession,
    SetLimits,
    SkipVolume,
    StartRun,
    TakeVolume,
    dump_input,
    parse_input,
    run_ended_key,
    run_key,
    volume_key,
)

_PAGE = 1000


@dataclass(frozen=True)
class RunStatus:
    """A declared run, and how far it has come."""

    declared: StartRun
    next_index: int
    ended: bool


class Recorder:
    """Writes one session's inputs and messages. ``now`` gives seconds since the Unix epoch."""

    def __init__(self, bus: Bus, session: str, now: Callable[[], float]) -> None:
        self._sessions = Sessions(bus)
        self._inputs = Log(bus, session, "input")
        self._messages = Log(bus, session, "messages")
        self._session = session
        self._now = now

    def open(self, record: SessionRecord, pool_size: int | None = None) -> SessionRecord:
        """``pool_size`` is of the bundle. Raises Conflict where one of this name was opened with other settings."""
        record = self._sessions.create(record)
        opened = OpenSession(
            t=record.opened_t,
            session=record.session,
            subject=record.subject,
            bundle=record.bundle,
            options=record.options,
        )
        message = SessionOpened(
            session=record.session,
            t=record.opened_t,
            subject=record.subject,
            bundle=record.bundle,
            pool_size=pool_size,
            blinded=record.options.blinded,
        )
        self._write(opened, message, unless=[])
        return record

    def close(self) -> SessionRecord:
        """Nothing is added after this. Closing a closed session changes nothing. Raises NotFound."""
        t = self._now()
        self._write(CloseSession(t=t), SessionClosed(session=self._session, t=t), requires=[SESSION_KEY], unless=[])
        self._sessions.advance(self._session, "closed")
        return self._sessions.get(self._session)

    def set_limits(self, declared: SetLimits) -> Appended:
        """Other limits for the volumes to come."""
        message = LimitsChanged(
            session=self._session,
            t=declared.t,
            fd_mm=declared.fd_mm,
            limits=declared.limits.model_dump(exclude_none=True),
        )
        return self._write(declared, message, requires=[SESSION_KEY], unless=[CLOSED_KEY])

    def start_run(self, declared: StartRun) -> Appended:
        message = RunStarted(
            session=self._session,
            t=declared.t,
            run=declared.run,
            task=declared.task,
            tr_s=declared.tr_s,
            n_volumes=declared.n_volumes,
            motion=declared.motion,
        )
        return self._write(declared, message, requires=[SESSION_KEY], unless=[CLOSED_KEY])

    def add_events(self, run: int, events: list[AddEvent]) -> list[Appended]:
        """All of them, within the run or not: one that no volume shows is told at the run's end.

        Raises BadRequest, and adds none, where one was over before the model's time begins; else the first error of the
        log; what was written before it stays, and is a duplicate on the next try.
        """
        self.run(run)
        for event in events:
            if in_model_time(event.onset_s, event.duration_s) is None:
                raise BadRequest(
                    f"expected events that last beyond {EARLIEST_S:g} s, got one that began at {event.onset_s:g} s;"
                    " leave it out, no volume shows it",
                    code="event.outside_run",
                )
        return [self._add_event(event) for event in events]

    def take_volume(self, volume: TakeVolume, received_ms: float) -> Appended:
        """Raises BadVolume for another shape than the run's, OutOfOrder, Conflict, Diverged."""
        self._check_shape(volume)
        message = VolumeReceived(
            session=self._session,
            t=volume.t,
            run=volume.run,
            index=volume.index,
            latency_ms=StageLatency(receive=round(received_ms, 3)),
        )
        return self._write_volume(volume, message)

    def skip_volume(self, skipped: SkipVolume) -> Appended:
        """Raises OutOfOrder; Conflict where the volume was received."""
        message = VolumeMissing(
            session=self._session, t=skipped.t, run=skipped.run, index=skipped.index, reason=skipped.reason
        )
        return self._write_volume(skipped, message)

    def warn(
        self, code: str, text: str, level: Literal["info", "warning", "error"], run: int | None, index: int | None
    ) -> Appended:
        """For the people who watch; no answer depends on it. Raises Conflict where the session is closed."""
        message = Warned(session=self._session, t=self._now(), code=code, text=text, level=level, run=run, index=index)
        identity = hashlib.sha256(message.model_dump_json(exclude={"t"}).encode()).hexdigest()
        try:
            return self._messages.append(
                f"console-{identity}", dump_message(message), identity=identity, unless=[CLOSED_KEY]
            )
        except ConditionFailed:
            raise _closed() from None

    def end_run(self, run: int) -> RunStatus:
        """Ending an ended run changes nothing."""
        t = self._now()
        ended = EndRun(t=t, run=run)
        self._write(ended, None, requires=[SESSION_KEY, run_key(run)], unless=[CLOSED_KEY])
        status = self.run(run)
        missing = sum(isinstance(entry, SkipVolume) and entry.run == run for entry in self._read_inputs())
        message = RunEnded(
            session=self._session, t=t, run=run, n_volumes=status.next_index - missing, n_missing=missing
        )
        self._messages.append(ended.key, dump_message(message), identity=ended.identity)
        return status

    def run(self, run: int) -> RunStatus:
        """Raises NotFound."""
        found = self._inputs.find(run_key(run))
        if found is None:
            self._sessions.get(self._session)
            raise _unknown_run(run)
        declared = parse_input(found.payload)
        assert isinstance(declared, StartRun)
        ended = self._inputs.find(run_ended_key(run)) is not None
        return RunStatus(declared, self._inputs.next_index(run_key(run)), ended)

    def runs(self) -> list[RunStatus]:
        declared = [entry.run for entry in self._read_inputs() if isinstance(entry, StartRun)]
        return [self.run(run) for run in declared]

    def _add_event(self, event: AddEvent) -> Appended:
        message = EventAdded(session=self._session, **event.model_dump(exclude={"v", "type", "occurrence"}))
        unless = [CLOSED_KEY, run_ended_key(event.run)]
        try:
            return self._write(event, message, requires=[SESSION_KEY, run_key(event.run)], unless=unless)
        except Diverged as error:
            text = (
                f"trial {event.trial} of run {event.run} was declared before with another onset, duration or stimulus"
            )
            raise Diverged(f"{text}; what was declared first holds", code=error.code, **error.details) from None

    def _write_volume(self, entry: TakeVolume | SkipVolume, message: Message) -> Appended:
        try:
            return self._write(
                entry,
                message,
                requires=[SESSION_KEY, run_key(entry.run)],
                unless=[CLOSED_KEY, run_ended_key(entry.run)],
                order=(run_key(entry.run), entry.index),
            )
        except Diverged:
            found = self._inputs.find(entry.key)
            was_missing = found is not None and isinstance(parse_input(found.payload), SkipVolume)
            if was_missing == isinstance(entry, SkipVolume):
                raise
            state = "marked as missing" if was_missing else "received"
            raise Conflict(
                f"volume {entry.index} of run {entry.run} was {state} before", code="volume.settled", index=entry.index
            ) from None

    def _check_shape(self, volume: TakeVolume) -> None:
        for index in range(volume.index):  # the first that was received; as a rule that is volume 0
            found = self._inputs.find(volume_key(volume.run, index))
            if found is None:
                return
            first = parse_input(found.payload)
            if isinstance(first, TakeVolume):
                if first.shape != volume.shape:
                    raise BadVolume(
                        f"expected the shape of the run's first volume, {first.shape}, got {volume.shape}",
                        code="volume.shape_mismatch",
                        expected="x".join(map(str, first.shape)),
                        got="x".join(map(str, volume.shape)),
                    )
                return

    def _write(
        self,
        entry: Input,
        message: Message | None,
        *,
        unless: list[str],
        requires: list[str] | None = None,
        order: tuple[str, int] | None = None,
    ) -> Appended:
        try:
            appended = self._inputs.append(
                entry.key,
                dump_input(entry),
                identity=entry.identity,
                order=order,
                requires=requires or [],
                unless=unless,
            )
        except ConditionFailed as failed:
            raise _explained(failed, entry) from None
        if message is not None:
            self._messages.append(entry.key, dump_message(message), identity=entry.identity)
        return appended

    def _read_inputs(self) -> list[Input]:
        entries: list[Input] = []
        after = 0
        while page := self._inputs.read(after, _PAGE):
            entries += [parse_input(entry.payload) for entry in page]
            after = page[-1].seq
        return entries


def _explained(failed: ConditionFailed, entry: Input) -> MindsightError:
    """A condition of the log in the words of a session."""
    if failed.key == SESSION_KEY:
        return NotFound("there is no such session", code="session.unknown")
    if failed.key == CLOSED_KEY:
        return _closed()
    run: int = getattr(entry, "run", 0)
    if failed.present:
        return Conflict(f"run {run} has ended; start another one", code="run.ended", run=run)
    return _unknown_run(run)


def _closed() -> Conflict:
    return Conflict("the session is closed; open another one", code="session.closed")


def _unknown_run(run: int) -> NotFound:
    return NotFound(f"run {run} was not declared in this session; declare it first", code="run.unknown", run=run)
