"""One session in the ingest worker's hands: each input log entry, in order, through the pure state machine.

Knows nothing of other sessions. ``position`` is the last entry that went in; state and position are one file.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Lease, Log, WorkQueue
from mindsight.errors import BadVolume, Diverged, MindsightError
from mindsight.events import Note, unmeasured
from mindsight.glm import Event
from mindsight.glm.normalise import Statistics
from mindsight.ingest import (
    IngestOptions,
    IngestSession,
    IngestState,
    Placement,
    Repeats,
    Space,
    TrialBeta,
    VolumeOutput,
)
from mindsight.preprocessing.quality.alerts import Alert, Baseline, QualityLimits
from mindsight.protocol import BetaReady, Message, StageLatency, VolumeProcessed, Warned, dump_message
from mindsight.protocol.inputs import (
    AddEvent,
    CloseSession,
    EndRun,
    Input,
    Limits,
    OpenSession,
    SessionOptions,
    SetLimits,
    SkipVolume,
    StartRun,
    TakeVolume,
)
from mindsight.protocol.work import BetaWork, Repeat, dump_work
from mindsight.settings import Settings
from mindsight.stages import STAGES
from mindsight.subjects.bundle.space import load_space
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from workers.ingest.placed import run_placed
from workers.ingest.snapshot import read_snapshot, write_snapshot

SAVE_EVERY_VOLUMES = 20
WARM_UP_VOLUMES = 24


@dataclass
class SessionRunner:
    """Applies a session's inputs and writes what follows, under the session's lease."""

    session: str
    lease: Lease
    bus: Bus
    blobs: BlobStore
    queue: WorkQueue
    settings: Settings
    opened: OpenSession | None = None
    ingest: IngestSession | None = None
    position: int = 0
    closed: bool = False
    repeats: Repeats[tuple[str, str | None]] = field(default_factory=Repeats)
    _unsaved: int = 0
    _place: tuple[Placement, Volume] | None = None

    def __post_init__(self) -> None:
        self.inputs = Log(self.bus, self.session, "input")
        self.messages = Log(self.bus, self.session, "messages")

    @classmethod
    def resume(
        cls, session: str, lease: Lease, bus: Bus, blobs: BlobStore, queue: WorkQueue, settings: Settings
    ) -> SessionRunner:
        """Where the last worker's snapshot left off; from the beginning where there is none."""
        runner = cls(session, lease, bus, blobs, queue, settings)
        snapshot = read_snapshot(runner.snapshot_path)
        if snapshot is not None:
            runner.opened = OpenSession.model_validate(snapshot.document["opened"])
            options, space, statistics, baseline = runner._settings(runner.opened)
            state = IngestState(snapshot.arrays, snapshot.document["ingest"])
            runner.ingest = IngestSession.restore(
                state,
                options,
                space,
                statistics,
                baseline=baseline,
                clock=time.perf_counter,
                motion_device=settings.motion_device,
            )
            runner.repeats.load_state(snapshot.document["repeats"])
            runner.position = snapshot.position
        return runner

    @property
    def snapshot_path(self) -> Path:
        return self.settings.snapshots_dir / f"{self.session}.safetensors"

    def save(self) -> None:
        """Write state and position."""
        if self.ingest is None or self.opened is None:
            return
        self._say_place()  # a snapshot is behind all that was said
        state = self.ingest.state()
        document = {
            "opened": self.opened.model_dump(mode="json"),
            "ingest": state.meta,
            "repeats": self.repeats.state(),
        }
        write_snapshot(self.snapshot_path, self.position, document, state.arrays)
        self._unsaved = 0

    def tidy(self) -> None:
        """Do in idle time what no answer waits for."""
        self._say_place()
        if self._unsaved >= SAVE_EVERY_VOLUMES:
            self.save()

    def _say_place(self) -> None:
        """Say where the run is, with a picture: drawing it takes a fraction of a second, so it waits for idle time."""
        if self._place is None:
            return
        (placement, volume), self._place = self._place, None
        assert self.ingest is not None
        assert self.ingest.space is not None
        placed = run_placed(self.session, placement, volume, self.ingest.space.reference, self.blobs)
        self._emit(f"placed-{placement.run}-{placement.index}", placed)

    def apply(self, position: int, entry: Input) -> None:
        """One entry of the input log. An entry that cannot be carried out is reported, and the session goes on."""
        try:
            self._apply(entry)
        except Diverged as error:
            # the first result stands; a second that differs is a fault that somebody must see
            self._warn(f"diverged-{position}", error)
        except MindsightError as error:
            if error.http_status >= 500 or error.code == "lease.lost":
                raise
            self._warn(f"input-{position}", error, "error" if isinstance(entry, OpenSession) else "warning")
            if isinstance(entry, TakeVolume) and isinstance(error, BadVolume) and self.ingest is not None:
                self._emit_betas(self.ingest.mark_missing(entry.run, entry.index), entry.acked_t)
        self.position = position

    def _apply(self, entry: Input) -> None:
        if isinstance(entry, OpenSession):
            self.opened = entry
            options, space, statistics, baseline = self._settings(entry)
            self.ingest = IngestSession(
                options,
                space,
                statistics,
                baseline=baseline,
                clock=time.perf_counter,
                motion_device=self.settings.motion_device,
            )
            return
        ingest = self.ingest
        if ingest is None:  # its bundle could not be loaded, which was said; a new worker tries again from the start
            self.closed = isinstance(entry, CloseSession)
            return
        match entry:
            case StartRun():
                self._end_run(ingest, ingest.open_run, entry.t)
                order = None if entry.motion == "unknown" else entry.motion
                ingest.start_run(
                    entry.run,
                    entry.tr_s,
                    entry.n_volumes,
                    motion_order=order,
                    brings_motion=entry.motion is not None,
                )
            case AddEvent():
                ingest.add_event(entry.run, Event(entry.onset_s, entry.duration_s, entry.trial))
                item = entry.stimulus or entry.candidate or entry.stim_file
                if entry.trial is not None and item is not None:
                    self.repeats.declare(entry.run, entry.trial, item)
            case SetLimits():
                limits = quality_limits(entry.limits, entry.fd_mm, ingest.limits)
                ingest.set_limits(limits, ingest.fd_threshold_mm if entry.fd_mm is None else entry.fd_mm)
            case TakeVolume():
                self._take(ingest, entry)
            case SkipVolume():
                betas = ingest.mark_missing(entry.run, entry.index)
                self._unsaved += 1
                self._emit_betas(betas, entry.t)
            case EndRun():
                # a run that another one has replaced was ended then
                self._end_run(ingest, entry.run if ingest.open_run == entry.run else None, entry.t)
            case CloseSession():
                self._end_run(ingest, ingest.open_run, entry.t)
                self.closed = True
                self.save()

    def _take(self, ingest: IngestSession, entry: TakeVolume) -> None:
        taken_t = time.time()
        volume = decode_volume(self.blobs.get(entry.digest))
        output = ingest.push(volume)
        self._emit_betas(output.betas, entry.acked_t)
        self._report(entry, output, taken_t)
        if output.placement is not None:
            self._say_place()
            self._place = output.placement, volume
        self._unsaved += 1

    def _report(self, entry: TakeVolume, output: VolumeOutput, taken_t: float) -> None:
        report, timings_ms = output.report, output.timings_ms
        message = VolumeProcessed(
            session=self.session,
            t=time.time(),
            run=entry.run,
            index=entry.index,
            translation_mm=report.translation_mm,
            rotation_deg=_degrees(report.rotation_rad),
            fd_mm=report.fd_mm,
            dvars_percent=report.dvars_percent,
            tsnr=report.tsnr,
            residual=report.residual,
            outlier_slices=report.outlier_slices,
            censored=report.censored,
            latency_ms=StageLatency(
                queue=max(0.0, 1e3 * (taken_t - entry.acked_t)),
                motion=timings_ms["motion"],
                glm=timings_ms["glm"],
                estimate=timings_ms["beta"] if output.betas else None,
            ),
        )
        self._emit(f"processed-{entry.run}-{entry.index}", message)
        self._say(report.alerts, entry.run, entry.index)
        if report.censored:
            assert self.ingest is not None
            limit_mm = self.ingest.fd_threshold_mm
            if not report.aligned:
                why = "it fits the reference in no position"
            elif report.fd_mm is not None and report.fd_mm > limit_mm:
                why = f"the head moved {report.fd_mm:.2f} mm, more than {limit_mm:g} mm"
            else:
                why = "its signal breaks off from the volumes before"
            self._emit(
                f"censored-{entry.run}-{entry.index}",
                Warned(
                    session=self.session,
                    t=time.time(),
                    code="volume.censored",
                    text=f"volume {entry.index} of run {entry.run} takes no part in the betas: {why}",
                    run=entry.run,
                    index=entry.index,
                ),
            )

    def _say(self, alerts: Sequence[Alert], run: int, index: int) -> None:
        for alert in alerts:
            self._emit(
                f"alert-{run}-{index}-{alert.code}",
                Warned(
                    session=self.session,
                    t=time.time(),
                    code=alert.code,
                    text=alert.text,
                    level=alert.level,
                    run=run,
                    index=index,
                ),
            )

    def _emit_betas(self, betas: list[TrialBeta], acked_t: float) -> None:
        """Payload, then message, then job: a job's beta and message are always there when somebody takes it."""
        assert self.opened is not None
        for beta, stored in zip(betas, self._store(betas), strict=True):
            digest, statistics, standard_errors = stored
            others = self.repeats.put(beta.run, beta.trial, (digest, statistics), sound=not beta.flagged)
            repeats = others if self.opened.options.average_repeats else []
            logged_t = time.time()
            key = f"{beta.run}-{beta.trial}-{beta.stage}"
            ready = BetaReady(
                session=self.session,
                t=logged_t,
                run=beta.run,
                trial=beta.trial,
                stage=beta.stage,
                n_volumes=beta.n_volumes,
                n_voxels=beta.beta_V.size,
                flagged=beta.flagged,
                beta=digest,
                standard_error=beta.error,
                standard_errors=standard_errors,
                latency_ms=StageLatency(beta=max(0.0, 1e3 * (logged_t - acked_t))),
            )
            self._emit(f"beta-{key}", ready)
            if self.opened.bundle is None:
                continue
            work = BetaWork(
                session=self.session,
                run=beta.run,
                trial=beta.trial,
                stage=beta.stage,
                beta=digest,
                statistics=statistics,
                normalised_by=beta.normalised_by,
                n_statistics=beta.n_statistics,
                repeats=tuple(Repeat(beta=other, statistics=scored_by) for other, scored_by in repeats),
                pairs=self.opened.options.pairs,
                flagged=beta.flagged,
                bundle=self.opened.bundle,
                logged_t=logged_t,
            )
            identity = " ".join([digest, statistics or "", *(other for other, _ in repeats)])
            self.queue.put(work.key, dump_work(work), identity=identity, fence=self.lease.fence)

    def _store(self, betas: Sequence[TrialBeta]) -> list[tuple[str, str | None, str | None]]:
        """Of each the payloads of the beta, of its statistics and standard errors; all wait for the disk together."""
        statistics = {
            i: np.stack([beta.mean_V, beta.std_V]) for i, beta in enumerate(betas) if beta.normalised_by != "bundle"
        }
        errors = {i: beta.error_V for i, beta in enumerate(betas) if beta.error_V is not None}
        arrays = [*(beta.beta_V for beta in betas), *statistics.values(), *errors.values()]
        digests = iter(self.blobs.put_many([_bytes(array) for array in arrays]))
        of_betas = [next(digests) for _ in betas]
        of_statistics, of_errors = ({i: next(digests) for i in stored} for stored in (statistics, errors))
        return [(digest, of_statistics.get(i), of_errors.get(i)) for i, digest in enumerate(of_betas)]

    def _end_run(self, ingest: IngestSession, run: int | None, t: float) -> None:
        """Final answers, and the realigned voxels in a file of their own for the archive."""
        if run is None:
            return
        self._emit_betas(ingest.end_run(run), t)
        self._say(ingest.last_alerts(run), run, max(ingest.n_volumes - 1, 0))
        self._say_events(ingest, run)
        space = ingest.space
        if space is not None:
            arrays = {
                "series_TV": ingest.run_series(run),
                "mask_XYZ": space.mask_XYZ,
                "affine": space.reference.affine,
            }
            document = {"run": run, "options": asdict(ingest.options)}
            write_snapshot(series_path(self.settings, self.session, run), self.position, document, arrays)
        self.save()

    def _say_events(self, ingest: IngestSession, run: int) -> None:
        """What became of the run's events, where no answer tells."""
        notes = unmeasured(run, ingest.unseen(run))
        if ingest.n_events(run) == 0 and self.opened is not None and self.opened.bundle is not None:
            notes = (Note("events.none", f"run {run}: no events were declared, so nothing was decoded"),)
        for note in notes:
            warned = Warned(
                session=self.session, t=time.time(), code=note.code, text=note.text, level=note.level, run=run
            )
            self._emit(f"{note.code}-{run}", warned)

    def _emit(self, key: str, message: Message) -> None:
        # times and latencies differ when a recovered worker says the same again
        identity = hashlib.sha256(message.model_dump_json(exclude={"t", "latency_ms", "id"}).encode()).hexdigest()
        self.messages.append(key, dump_message(message), identity=identity, fence=self.lease.fence)

    def _warn(self, key: str, error: MindsightError, level: Literal["warning", "error"] = "warning") -> None:
        self._emit(key, Warned(session=self.session, t=time.time(), code=error.code, text=str(error), level=level))

    def _settings(self, opened: OpenSession) -> tuple[IngestOptions, Space | None, Statistics | None, Baseline | None]:
        """What the session's ingest is made with; the same whenever it is asked for."""
        if opened.bundle is None:
            return ingest_options(opened.options, None), None, None, None
        found = load_space(self.settings.bundles_dir / opened.bundle)
        return ingest_options(opened.options, found.options), found.space, found.statistics, found.baseline


def series_path(settings: Settings, session: str, run: int) -> Path:
    """Where an ended run's realigned voxels wait for the archive."""
    return settings.snapshots_dir / f"{session}-run-{run}-series.safetensors"


def ingest_options(asked: SessionOptions, calibrated: IngestOptions | None) -> IngestOptions:
    """What the session asks for, on top of what its bundle was calibrated with or of the defaults."""
    options = IngestOptions() if calibrated is None else calibrated
    same_name = ("normalise", "min_betas", "prior_betas", "std_floor")
    given: dict[str, Any] = {name: getattr(asked, name) for name in same_name if getattr(asked, name) is not None}
    for stage in STAGES:
        seconds, volumes = getattr(asked, f"{stage}_s"), getattr(asked, f"{stage}_volumes")
        if seconds is not None:
            given |= {f"{stage}_s": seconds, f"{stage}_volumes": None}
        if volumes is not None:
            given[f"{stage}_volumes"] = volumes
    if asked.fd_mm is not None:
        given["fd_threshold_mm"] = asked.fd_mm
    return replace(options, limits=quality_limits(asked.limits, asked.fd_mm, options.limits), **given)


def quality_limits(asked: Limits, fd_mm: float | None, present: QualityLimits) -> QualityLimits:
    """What is asked for on top of the present limits; what censors a volume is also said, if nothing else is asked."""
    earlier = asdict(present) | ({} if fd_mm is None else {"fd_mm": fd_mm})
    return QualityLimits(**asked.on(earlier))


def warm_up() -> None:
    """Compile every kernel on a small simulated run, so that the first volume of a session is as fast as the rest."""
    from mindsight.simulator.anatomy import GRID, grid_affine, grid_points

    points = grid_points(GRID, grid_affine())
    radius = np.sqrt(((points / np.array([70.0, 86.0, 60.0]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
    data = np.where(radius < 1.0, 800.0 + 100.0 * np.sin(points[0] / 9.0) * np.cos(points[1] / 11.0), 0.0)
    rng = np.random.default_rng(0)
    volumes = [
        Volume((data + rng.normal(0.0, 5.0, GRID)).astype(np.int16), grid_affine(), 1.0, 1, index)
        for index in range(WARM_UP_VOLUMES)
    ]
    space = _rehearse(IngestOptions(fast_s=2.0, revised_s=None), None, volumes)
    calibrated = replace(
        space,
        hrf_V=(np.arange(space.n_voxels) % 2).astype(np.uint8),
        noise_pool_V=np.arange(space.n_voxels) % 3 == 0,
    )
    _rehearse(IngestOptions(ridge_fraction=0.5, n_noise_components=1), calibrated, volumes)


def _rehearse(options: IngestOptions, space: Space | None, volumes: Sequence[Volume]) -> Space:
    """A run of these volumes with one trial; returns the space that it was in."""
    ingest = IngestSession(options, space, clock=time.perf_counter)
    ingest.start_run(1, 1.0, len(volumes))
    ingest.add_event(1, Event(0.0, 1.0, 1))
    for volume in volumes:
        ingest.push(volume)
    ingest.end_run(1)
    assert ingest.space is not None
    return ingest.space


def _degrees(rotation_rad: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    if rotation_rad is None:
        return None
    x, y, z = np.rad2deg(rotation_rad)
    return float(x), float(y), float(z)


def _bytes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()
