"""One session in an ingest worker: each input log entry, in order, through the pure state machine.

Knows nothing of other sessions. ``position`` is the last entry that was applied; state and position are one file.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

import numpy as np

from mindsight.blobs import Blobs
from mindsight.bus import Bus, Entry, Lease, Quarantine, Questions, WorkQueue
from mindsight.errors import BadVolume, Diverged, LeaseLost, MindsightError, ModelMismatch
from mindsight.events import Note, unmeasured
from mindsight.files.digest import sha256_of
from mindsight.files.durable import is_of_the_machine
from mindsight.glm import Event
from mindsight.glm.normalise import Statistics
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.repeats import Repeats
from mindsight.ingest.rois import Roi, RoiBaseline
from mindsight.ingest.space import SubjectSpace
from mindsight.ingest.state import IngestState
from mindsight.journal.read import Journal
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.protocol.inputs import (
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
    parse_input,
)
from mindsight.settings import Settings
from mindsight.subjects.bundle.space import load_space
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from workers.clock import CLOCK
from workers.ingest.options import ingest_options
from workers.ingest.publish import DecodedBy, Publisher, RepeatedBetas
from workers.ingest.snapshot import Snapshot, read_snapshot, write_snapshot
from workers.ingest.voxels import answer_questions

SAVE_EVERY_VOLUMES = 20


@dataclass
class SessionRunner:
    """Applies a session's inputs and publishes what follows, under the session's lease."""

    session: str
    lease: Lease
    bus: Bus
    blobs: Blobs
    queue: WorkQueue
    settings: Settings
    opened: OpenSession | None = None
    ingest: IngestSession | None = None
    position: int = 0
    closed: bool = False
    decoded_by: DecodedBy = field(default_factory=DecodedBy)
    next_decoded_by: DecodedBy | None = None
    paused: bool = False
    repeats: RepeatedBetas = field(default_factory=Repeats)
    _skipped: dict[int, str] = field(default_factory=dict)
    _n_unsaved: int = 0
    _unpublished: tuple[RegistrationReport, Volume] | None = None
    _space_published: bool = False

    def __post_init__(self) -> None:
        journal = Journal(self.bus, self.session)
        self.inputs, self.messages = journal.inputs, journal.messages
        self.queue.admit(self.lease.fence)  # before anything is read: no predecessor adds a job from here on
        self.publish = Publisher(self.session, self.messages, self.blobs, self.queue, self.lease)
        self.quarantine = Quarantine(self.bus, self.session)
        self.questions = Questions(self.bus, self.session)

    @classmethod
    def resume(
        cls, session: str, lease: Lease, bus: Bus, blobs: Blobs, queue: WorkQueue, settings: Settings
    ) -> SessionRunner:
        """Continue from the last worker's snapshot; from the beginning of the log if there is none that can be used.

        A power failure may take the log's last entries and leave the snapshot, which is then of another log: the input
        that it ends with is compared.
        """
        runner = cls(session, lease, bus, blobs, queue, settings)
        runner._skipped = runner.quarantine.read()
        snapshot = read_snapshot(runner.snapshot_path)
        if snapshot is None or snapshot.document.get("last_input") != runner._input_at(snapshot.position):
            return runner
        try:
            runner._restore(snapshot)
        except MindsightError:
            raise
        except Exception:  # written by a version with another state and the same number: the log has everything
            traceback.print_exc()
            unrestored = cls(session, lease, bus, blobs, queue, settings)
            unrestored._skipped = runner._skipped
            return unrestored
        return runner

    def _restore(self, snapshot: Snapshot) -> None:
        self.opened = OpenSession.model_validate(snapshot.document["opened"])
        options, space, statistics, baseline = self._calibration(self.opened)
        self.ingest = IngestSession.restore(
            IngestState(snapshot.arrays, snapshot.document["ingest"]),
            options,
            space,
            statistics,
            baseline=baseline,
            clock=time.perf_counter,
            motion_device=self.settings.motion_device,
        )
        self.repeats.load_state(snapshot.document["repeats"])
        held = snapshot.document.get("decoded_by", [[self.opened.bundle, None], None])  # an earlier release has none
        self.decoded_by = DecodedBy(*held[0])
        self.next_decoded_by = None if held[1] is None else DecodedBy(*held[1])
        self.paused = snapshot.document.get("paused", False)
        self.position = snapshot.position

    @property
    def snapshot_path(self) -> Path:
        return snapshot_path(self.settings, self.session)

    def save(self) -> None:
        """Write state and position."""
        if self.ingest is None or self.opened is None:
            return
        self._publish_space()
        self._publish_registration()  # a snapshot comes after every message that it stands for
        if (last_input := self._input_at(self.position)) is None:
            return  # the bus has lost what this state is of
        state = self.ingest.state()
        document = {
            "last_input": last_input,
            "opened": self.opened.model_dump(mode="json"),
            "ingest": state.meta,
            "repeats": self.repeats.state(),
            "decoded_by": [astuple(self.decoded_by), self.next_decoded_by and astuple(self.next_decoded_by)],
            "paused": self.paused,
        }
        write_snapshot(self.snapshot_path, self.position, document, state.arrays)
        self._n_unsaved = 0

    def _input_at(self, position: int) -> str | None:
        """Digest of the entry of this number; None if there is none."""
        found = self.inputs.read(position - 1, 1)
        return sha256_of(found[0].payload) if found and found[0].seq == position else None

    def tidy(self) -> None:
        """Do in idle time what no beta waits for."""
        self._publish_space()
        self._publish_registration()
        if self._n_unsaved >= SAVE_EVERY_VOLUMES:
            self.save()

    def look_up(self) -> None:
        """Answer what people ask about voxels."""
        if self.ingest is not None:
            answer_questions(self.questions, self.ingest)

    def _publish_space(self) -> None:
        """Once a process: the same again is a duplicate."""
        if self._space_published or self.ingest is None or self.ingest.space is None:
            return
        try:
            self.publish.space(self.ingest.space)
        except Diverged as error:
            self.publish.error("diverged-space", error)  # as for an entry: the first one stands
        self._space_published = True

    def _publish_registration(self) -> None:
        if self._unpublished is None:
            return
        (report, volume), self._unpublished = self._unpublished, None
        assert self.ingest is not None
        assert self.ingest.space is not None
        try:
            self.publish.registration(report, volume, self.ingest.space.reference)
        except Diverged as error:
            self.publish.error(f"diverged-placed-{report.run}-{report.index}", error)

    def take(self, entry: Entry) -> None:
        """Apply the next entry of the input log, or skip it if it is in quarantine.

        Raises what ``apply`` raises. After any other error than ours this runner is in an unknown state: the session
        must be resumed. The entry is in quarantine, unless the machine failed it.
        """
        if entry.seq in self._skipped:
            self._skip(entry)
            return
        try:
            self.apply(entry.seq, parse_input(entry.payload))
        except MindsightError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and is_of_the_machine(error):
                raise
            self.quarantine.add(entry.seq, type(error).__name__, self.lease.fence)
            raise

    def _skip(self, skipped: Entry) -> None:
        """Report an entry in quarantine, and go on as if it had not come: a volume is missing, a run ends as it is."""
        reason = self._skipped[skipped.seq]
        text = (
            f"input {skipped.seq} ({skipped.key}) could not be processed ({reason}) and is skipped; report this fault"
        )
        self.publish.error(f"input-{skipped.seq}", MindsightError(text, code="input.quarantined"), "error")
        self.position = skipped.seq
        try:
            entry = parse_input(skipped.payload)
        except ValueError:
            return
        self.closed = isinstance(entry, CloseSession)
        if self.ingest is None:
            return
        if isinstance(entry, StartRun | EndRun | CloseSession):
            self.ingest.abandon_run()
        elif isinstance(entry, TakeVolume | SkipVolume):
            self._publish_betas(self._without(self.ingest, entry), entry.t)

    def _without(self, ingest: IngestSession, entry: TakeVolume | SkipVolume) -> list[TrialBeta]:
        """The betas that are due although this volume is missing. What fails here would fail again at every start."""
        try:
            return ingest.mark_missing(entry.run, entry.index)
        except MindsightError:
            return []  # its run is not open: an input that would have opened it may be in quarantine too
        except Exception:
            traceback.print_exc()
            ingest.abandon_run()
            return []

    def apply(self, position: int, entry: Input) -> None:
        """Apply one entry of the input log. One that cannot be carried out is reported, and the session goes on."""
        try:
            self._apply(entry)
        except Diverged as error:
            # the first result stands; a second one that differs is a fault that the operator must see
            self.publish.error(f"diverged-{position}", error)
        except MindsightError as error:
            if error.is_transient or isinstance(error, LeaseLost):
                raise
            self.publish.error(f"input-{position}", error, "error" if isinstance(entry, OpenSession) else "warning")
            if isinstance(entry, TakeVolume) and isinstance(error, BadVolume) and self.ingest is not None:
                self._publish_betas(self.ingest.mark_missing(entry.run, entry.index), entry.acked_t)
        self.position = position

    def _apply(self, entry: Input) -> None:
        if isinstance(entry, OpenSession):
            self._open(entry)
            return
        ingest = self.ingest
        if ingest is None:  # its bundle could not be loaded, which was reported; a new worker tries from the start
            self.closed = isinstance(entry, CloseSession)
            return
        match entry:
            case StartRun():
                self._start_run(ingest, entry)
            case SetRoi():
                self._declare_roi(ingest, entry)
            case AddEvent():
                ingest.add_event(entry.run, Event(entry.onset_s, entry.duration_s, entry.trial), entry.label)
                item = entry.stimulus or entry.candidate or entry.stim_file
                if entry.trial is not None and item is not None:
                    self.repeats.declare(entry.run, entry.trial, item)
            case SetLimits():
                limits = ingest.limits.override(entry.limits.on({}), fd_mm=entry.fd_mm)
                ingest.set_limits(limits, ingest.fd_threshold_mm if entry.fd_mm is None else entry.fd_mm)
            case SetBundle():
                self.next_decoded_by = self._by(ingest, entry.bundle)
            case Instruct():
                self._instruct(ingest, entry)
            case TakeVolume():
                self._take(ingest, entry)
            case SkipVolume():
                betas = ingest.mark_missing(entry.run, entry.index)
                self._n_unsaved += 1
                self._publish_betas(betas, entry.t)
            case EndRun():
                # a run that was replaced by another has ended already
                self._end_run(ingest, entry.run if ingest.open_run == entry.run else None, entry.t)
                self.publish.instructed(entry.key, "end", entry.run, ingest.n_volumes)
            case CloseSession():
                self._end_run(ingest, ingest.open_run, entry.t)
                self.closed = True
                self.save()

    def _open(self, entry: OpenSession) -> None:
        self.opened, self.decoded_by = entry, DecodedBy(entry.bundle)
        options, space, statistics, baseline = self._calibration(entry)
        self.ingest = IngestSession(
            options,
            space,
            statistics,
            baseline=baseline,
            clock=time.perf_counter,
            motion_device=self.settings.motion_device,
        )

    def _start_run(self, ingest: IngestSession, entry: StartRun) -> None:
        self._end_run(ingest, ingest.open_run, entry.t)
        self.decoded_by, self.next_decoded_by = self.next_decoded_by or self.decoded_by, None
        ingest.start_run(
            entry.run,
            entry.tr_s,
            entry.n_volumes,
            motion_order=None if entry.motion == "unknown" else entry.motion,
            brings_motion=entry.motion is not None,
        )
        self.publish.instructed(entry.key, "start", entry.run, 0)

    def _instruct(self, ingest: IngestSession, entry: Instruct) -> None:
        if entry.instruction in ("pause", "resume"):
            self.paused = entry.instruction == "pause"
        run = ingest.open_run
        self.publish.instructed(
            entry.change, entry.instruction, run, None if run is None else ingest.n_volumes, entry.text
        )

    def _declare_roi(self, ingest: IngestSession, entry: SetRoi) -> None:
        mask = decode_volume(self.blobs.get(entry.mask))
        baseline = RoiBaseline(**entry.baseline.model_dump())
        ingest.declare_roi(Roi(entry.name, mask.data != 0, mask.affine, baseline))

    def _take(self, ingest: IngestSession, entry: TakeVolume) -> None:
        queued_ms = CLOCK.since_ms(entry.acked_t)
        volume = decode_volume(self.blobs.get(entry.digest))
        output = ingest.push(volume)
        self.publish.rois(entry, output, volume.tr_s)
        self._publish_betas(output.betas, entry.acked_t)
        self.publish.volume(entry, output, queued_ms, ingest.fd_threshold_mm)
        if output.registration is not None:
            self._publish_registration()
            self._unpublished = output.registration, volume
        self._n_unsaved += 1

    def _publish_betas(self, betas: list[TrialBeta], acked_t: float) -> None:
        assert self.opened is not None
        decoded_by = DecodedBy() if self.paused else self.decoded_by
        self.publish.betas(betas, acked_t, self.opened, self.repeats, decoded_by)

    def _end_run(self, ingest: IngestSession, run: int | None, t: float) -> None:
        """Publish the final betas, and write the realigned voxels to a file of their own for the archive."""
        if run is None:
            return
        self._publish_betas(ingest.end_run(run), t)
        self.publish.alerts(ingest.end_alerts(run), run, max(ingest.n_volumes - 1, 0))
        notes = unmeasured(run, ingest.unmeasured_trials(run))
        if ingest.n_events(run) == 0 and self.decoded_by.bundle is not None:
            notes = (
                Note(
                    "events.none",
                    f"run {run}: no events were declared, so nothing was decoded; declare them (--events)",
                ),
            )
        self.publish.notes(run, notes)
        space = ingest.space
        if space is not None:
            arrays = {
                "series_TV": ingest.run_series(run),
                "mask_XYZ": space.mask_XYZ,
                "affine": space.reference.affine,
                "reference_XYZ": space.reference.data,
            }
            document = {"run": run, "options": asdict(ingest.options)}
            write_snapshot(series_path(self.settings, self.session, run), self.position, document, arrays)
        self.save()

    def _by(self, ingest: IngestSession, bundle: str) -> DecodedBy:
        """Raises ModelMismatch (``bundle.space``) if the bundle reads voxels that this session does not have."""
        own, theirs = ingest.space, load_space(self.settings.bundles_dir / bundle).space
        if (
            own is None
            or own.mask_XYZ.shape != theirs.mask_XYZ.shape
            or (theirs.mask_XYZ & ~own.mask_XYZ).any()
            or not np.allclose(own.reference.affine, theirs.reference.affine)
            or not np.array_equal(own.reference.data.astype(np.float32), theirs.reference.data)
        ):
            raise ModelMismatch(
                f"expected a bundle for the voxels of this session, got {bundle}, which has others: the session goes on"
                " with the one that it has",
                code="bundle.space",
            )
        keep_V = theirs.mask_XYZ[own.mask_XYZ]
        return DecodedBy(bundle, None if keep_V.all() else self.blobs.put(keep_V.astype(np.uint8).tobytes()))

    def _calibration(
        self, opened: OpenSession
    ) -> tuple[IngestOptions, SubjectSpace | None, Statistics | None, Baseline | None]:
        """What the session's ingest is made with: the same at every call."""
        if opened.bundle is None:
            return ingest_options(opened.options, None), None, None, None
        found = load_space(self.settings.bundles_dir / opened.bundle)
        return ingest_options(opened.options, found.options), found.space, found.statistics, found.baseline


def snapshot_path(settings: Settings, session: str) -> Path:
    """Where a session's state is kept between two workers."""
    return settings.snapshots_dir / f"{session}.safetensors"


def series_path(settings: Settings, session: str, run: int) -> Path:
    """Where an ended run's realigned voxels wait for the archive."""
    return settings.snapshots_dir / f"{session}-run-{run}-series.safetensors"
