"""What is declared in a session: every declaration goes into the input log first, then into the message log.

Knows nothing of HTTP. Both writes are idempotent, so that a retry after a crash between them completes the second. The
input log itself is the state: what the tables of ``states`` refuse is refused by a condition of each append, at the
moment of writing. A message is a write of its own, after its input: Redis notices a full disk one write late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

from mindsight.bus import Appended, Bus, ConditionFailed, Unlike
from mindsight.errors import BadRequest, BadVolume, Conflict, Diverged, MindsightError
from mindsight.events import EARLIEST_S, in_model_time
from mindsight.journal.read import Journal, RunStatus, unknown_run, unknown_session
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.journal.states import Event, Refusal, SessionState, refusals
from mindsight.protocol import (
    BundleChanged,
    EventAdded,
    LimitsChanged,
    Message,
    RoiDeclared,
    RunEnded,
    RunStarted,
    SessionArchived,
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
    Instruct,
    OpenSession,
    SetBundle,
    SetLimits,
    SetRoi,
    SkipVolume,
    StartRun,
    TakeVolume,
    dump_input,
    parse_input,
    run_ended_key,
    run_key,
)

_SETTINGS = ("task", "tr_s", "n_volumes", "motion")  # of a run


class Recorder:
    """Writes one session's inputs and messages. ``now`` : seconds since the Unix epoch."""

    def __init__(self, bus: Bus, session: str, now: Callable[[], float]) -> None:
        self._sessions = Sessions(bus)
        self._journal = Journal(bus, session)
        self._inputs = self._journal.inputs
        self._messages = self._journal.messages
        self._session = session
        self._now = now

    def open(self, record: SessionRecord, pool_size: int | None = None) -> SessionRecord:
        """Open the session. Opening it again with the same settings changes nothing.

        pool_size : candidates in the pool of the session's bundle

        Raises Conflict (``session.exists``) if it was opened with other settings.
        """
        written = self._sessions.create(record)
        record = record.model_copy(update={"opened_t": written.opened_t})
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
        self._write("open", opened, message)
        return written

    def close(self) -> SessionRecord:
        """Close the session: nothing can be added afterwards. Closing it again changes nothing. Raises NotFound."""
        t = self._now()
        self._write("close", CloseSession(t=t), SessionClosed(session=self._session, t=t))
        self._sessions.advance(self._session, "closed")
        return self._sessions.get(self._session)

    def archive(self, folder: str, n_files: int) -> None:
        """Report the archive of a closed session. Repeating it changes nothing.

        folder : of the archive, relative to the service's data folder

        Raises NotFound, Conflict (``session.open``).
        """
        self.check_closed()  # a closed session stays closed, so that this need not be a condition of the append
        message = SessionArchived(session=self._session, t=self._now(), archive=folder, n_files=n_files)
        self._messages.append("archived", dump_message(message), identity="archived")
        self._sessions.advance(self._session, "archived")

    def check_closed(self) -> None:
        """Raises NotFound for an unknown session, Conflict (``session.open``) for one that is not closed yet."""
        state = self._journal.state()
        if state is SessionState.ABSENT:
            raise unknown_session()
        if state is SessionState.OPEN:
            raise Conflict("the session is still open; close it before it is archived", code=Refusal.NOT_CLOSED.value)

    def set_limits(self, declared: SetLimits) -> Appended:
        """Change limits of quality for the volumes to come. Raises NotFound, Conflict."""
        message = LimitsChanged(
            session=self._session,
            t=declared.t,
            fd_mm=declared.fd_mm,
            limits=declared.limits.model_dump(exclude_none=True),
            usable_min=declared.usable_min,
        )
        return self._write("change_limits", declared, message)

    def set_bundle(self, bundle: str, digest: str, text: str) -> Appended:
        """Decode the runs that begin from here on with this bundle. Raises NotFound, Conflict (``session.closed``).

        text : what it was made of
        """
        t = self._now()
        message = BundleChanged(session=self._session, t=t, bundle=bundle, digest=digest, text=text)
        appended = self._write("set_bundle", SetBundle(t=t, bundle=bundle), message)
        self._sessions.set_bundle(self._session, bundle)
        return appended

    def set_roi(self, declared: SetRoi, n_voxels: int) -> Appended:
        """Measure a region of interest from the next volume on. Raises NotFound, Conflict (``session.closed``).

        What was declared last under this name stands, also if it was declared before something else was; the same again
        changes nothing.

        n_voxels : in its mask
        """
        earlier = [
            entry for entry in self._journal.read_inputs() if isinstance(entry, SetRoi) and entry.name == declared.name
        ]
        n_same = sum(entry.identity == declared.identity for entry in earlier)
        stands = bool(earlier) and earlier[-1].identity == declared.identity
        occurrence = n_same if stands else n_same + 1
        declared = declared.model_copy(update={"occurrence": occurrence if occurrence > 1 else None})
        message = RoiDeclared(
            session=self._session,
            t=declared.t,
            name=declared.name,
            mask=declared.mask,
            n_voxels=n_voxels,
            baseline=declared.baseline,
        )
        return self._write("set_roi", declared, message)

    def instruct(self, declared: Instruct) -> Appended:
        """Log an instruction for the worker, whose message tells that it was taken. Raises NotFound, Conflict.

        From the return of this method on the list of sessions knows whether what was shown is hidden.
        """
        appended = self._write("instruct", declared, None)
        if declared.instruction in ("blind", "unblind"):
            self._sessions.set_blinded(self._session, declared.instruction == "blind", appended.seq)
        return appended

    def start_run(self, declared: StartRun) -> Appended:
        """Declare a run. Raises NotFound, Conflict, Diverged if it was declared with other settings, which stay."""
        message = RunStarted(
            session=self._session,
            t=declared.t,
            run=declared.run,
            task=declared.task,
            tr_s=declared.tr_s,
            n_volumes=declared.n_volumes,
            motion=declared.motion,
        )
        try:
            return self._write("start_run", declared, message)
        except Diverged as error:
            found = self._inputs.find(declared.key)
            if found is None:
                raise
            before = parse_input(found.payload)
            other = [name for name in _SETTINGS if getattr(before, name) != getattr(declared, name)]
            settings = " and ".join(f"{name} {getattr(before, name)!r}" for name in other)
            text = (
                f"run {declared.run} was started before with {settings}, which is never overwritten: give another run"
                " the next number"
            )
            raise Diverged(text, code=error.code, **error.details) from None

    def add_events(self, run: int, events: list[AddEvent]) -> list[Appended]:
        """Add all of them, also those after the last volume: the run's end reports trials that no volume covers.

        Raises BadRequest, and adds none, if one ended before the model's time axis starts; otherwise the first error of
        the log: what was written before it stays, and is a duplicate on the next try.
        """
        self._journal.run(run)
        for event in events:
            if in_model_time(event.onset_s, event.duration_s) is None:
                raise BadRequest(
                    f"expected events that last beyond {EARLIEST_S:g} s, got one that began at {event.onset_s:g} s;"
                    " leave it out: no volume covers it",
                    code="event.outside_run",
                )
        return [self._add_event(event) for event in events]

    def take_volume(self, volume: TakeVolume, received_ms: float) -> Appended:
        """Log a volume whose payload is durable.

        received_ms : from its first byte until it was durable

        Raises NotFound, Conflict, OutOfOrder, Diverged, BadVolume if its shape is not that of the run's first.
        """
        message = VolumeReceived(
            session=self._session,
            t=volume.t,
            run=volume.run,
            index=volume.index,
            latency_ms=StageLatency(receive=round(received_ms, 3)),
        )
        return self._write_volume("take_volume", volume, message)

    def skip_volume(self, skipped: SkipVolume) -> Appended:
        """Log that a volume is missing. Raises NotFound, OutOfOrder, Conflict if the volume was received."""
        message = VolumeMissing(
            session=self._session, t=skipped.t, run=skipped.run, index=skipped.index, reason=skipped.reason
        )
        return self._write_volume("skip_volume", skipped, message)

    def warn(
        self, code: str, text: str, level: Literal["info", "warning", "error"], run: int | None, index: int | None
    ) -> Appended:
        """Report a fault at the scanner's side to the people who watch; no result depends on it.

        It is in the message log only, which has the keys of session.opened and session.closed as the input log has.
        Raises NotFound, Conflict if the session is closed.
        """
        message = Warned(session=self._session, t=self._now(), code=code, text=text, level=level, run=run, index=index)
        identity = hashlib.sha256(message.model_dump_json(exclude={"t"}).encode()).hexdigest()
        try:
            requires, unless = _conditions("warn", 0)
            return self._messages.append(
                f"console-{identity}", dump_message(message), identity=identity, requires=requires, unless=unless
            )
        except ConditionFailed as failed:
            raise _explained(failed, run or 0) from None

    def end_run(self, run: int) -> RunStatus:
        """End a run. Ending an ended run changes nothing. Raises NotFound, Conflict if the session is closed."""
        t = self._now()
        ended = EndRun(t=t, run=run)
        self._write("end_run", ended, None)
        status = self._journal.run(run)
        missing = sum(isinstance(entry, SkipVolume) and entry.run == run for entry in self._journal.read_inputs())
        message = RunEnded(
            session=self._session, t=t, run=run, n_volumes=status.next_index - missing, n_missing=missing
        )
        self._messages.append(ended.key, dump_message(message), identity=ended.identity)
        return status

    def _add_event(self, event: AddEvent) -> Appended:
        message = EventAdded(session=self._session, **event.model_dump(exclude={"v", "type", "occurrence"}))
        try:
            return self._write("add_event", event, message)
        except Diverged as error:
            text = (
                f"trial {event.trial} of run {event.run} was declared before with another onset, duration or stimulus"
            )
            raise Diverged(f"{text}; the first declaration stays in effect", code=error.code, **error.details) from None

    def _write_volume(
        self, event: Literal["take_volume", "skip_volume"], entry: TakeVolume | SkipVolume, message: Message
    ) -> Appended:
        shape = "x".join(map(str, entry.shape)) if isinstance(entry, TakeVolume) else None
        try:
            return self._write(event, entry, message, order=(run_key(entry.run), entry.index), shape=shape)
        except Unlike as error:
            raise BadVolume(
                f"expected the shape of the run's first volume, {error.expected}, got {shape}",
                code="volume.shape_mismatch",
                expected=error.expected,
                got=shape,
            ) from None
        except Diverged as error:
            found = self._inputs.find(entry.key)
            was_missing = found is not None and isinstance(parse_input(found.payload), SkipVolume)
            if was_missing == isinstance(entry, SkipVolume):
                text = (
                    f"volume {entry.index} of run {entry.run} is in the log with other content, which is never"
                    " overwritten: give another run the next number"
                )
                raise Diverged(text, code=error.code, **error.details) from None
            state = "marked as missing" if was_missing else "received"
            raise Conflict(
                f"volume {entry.index} of run {entry.run} was {state} before", code="volume.settled", index=entry.index
            ) from None

    def _write(
        self,
        event: Event,
        entry: Input,
        message: Message | None,
        *,
        order: tuple[str, int] | None = None,
        shape: str | None = None,
    ) -> Appended:
        run: int = getattr(entry, "run", 0)
        requires, unless = _conditions(event, run)
        try:
            appended = self._inputs.append(
                entry.key,
                dump_input(entry),
                identity=entry.identity,
                order=order,
                trait=shape,
                requires=requires,
                unless=unless,
            )
        except ConditionFailed as failed:
            raise _explained(failed, run) from None
        if message is not None:
            self._messages.append(entry.key, dump_message(message), identity=entry.identity)
        return appended


def _conditions(event: Event, run: int) -> tuple[list[str], list[str]]:
    """The keys that must, and must not, be in the log, so that it refuses what the tables of states refuse."""
    refused = refusals(event)
    requires = {Refusal.NO_SESSION: SESSION_KEY, Refusal.NO_RUN: run_key(run)}
    unless = {Refusal.CLOSED: CLOSED_KEY, Refusal.RUN_ENDED: run_ended_key(run)}
    return (
        [key for refusal, key in requires.items() if refusal in refused],
        [key for refusal, key in unless.items() if refusal in refused],
    )


def _explained(failed: ConditionFailed, run: int) -> MindsightError:
    """A condition of the log in the words of a session."""
    if failed.key == SESSION_KEY:
        return unknown_session()
    if failed.key == CLOSED_KEY:
        return Conflict("the session is closed; open another one", code=Refusal.CLOSED.value)
    if failed.present:
        return Conflict(f"run {run} has ended; start another one", code=Refusal.RUN_ENDED.value, run=run)
    return unknown_run(run)
