"""What a session's ingest found, written out: messages to its log, payloads to the blob store, betas to the work queue.

Knows nothing of inputs. Everything is written with a key, under the session's lease, so that a worker that took the
session over writes the same again as duplicates.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.blobs import Blobs
from mindsight.bus import Lease, Log, WorkQueue
from mindsight.errors import MindsightError
from mindsight.events import Note
from mindsight.ingest.outputs import TrialBeta, VolumeOutput, VolumeReport
from mindsight.ingest.repeats import Repeats
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.rules import Alert
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.protocol import (
    BetaReady,
    Instructed,
    Message,
    RoiMeasured,
    RoiValue,
    SpaceKnown,
    StageLatency,
    VolumeProcessed,
    WarmingUp,
    Warned,
    dump_message,
)
from mindsight.protocol.inputs import OpenSession, TakeVolume
from mindsight.protocol.messages import Instruction
from mindsight.protocol.work import BetaWork, Repeat, dump_work
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from workers.clock import CLOCK
from workers.ingest.registered import run_placed

_TIMES = {"t", "latency_ms", "id"}
_LATER = {"statistics", "n_run", "censored_by", "flagged_by", "reference"}  # no part of older messages

RepeatedBetas = Repeats[tuple[str, str | None]]
"""The newest beta of each trial as digests: of the beta, and of its statistics (None: the bundle's)."""


@dataclass(frozen=True, eq=False)
class _Stored:
    """Digests of one beta, of its statistics (None: the bundle's) and of its standard errors."""

    beta: str
    statistics: str | None
    errors: str | None


@dataclass(frozen=True)
class DecodedBy:
    """What decodes a run's betas.

    bundle : None: nothing does
    voxels : digest of which of the session's voxels it reads; None: all
    """

    bundle: str | None = None
    voxels: str | None = None


@dataclass(frozen=True, eq=False)
class Publisher:
    """Writes for one session under its lease. Raises LeaseLost if another worker holds the session."""

    session: str
    messages: Log
    blobs: Blobs
    queue: WorkQueue
    lease: Lease

    def emit(self, key: str, message: Message) -> None:
        """Append a message."""
        # times and latencies differ when a worker that took over writes the message again
        identity = hashlib.sha256(message.model_dump_json(exclude=_TIMES | _LATER).encode()).hexdigest()
        self.messages.append(key, dump_message(message), identity=identity, fence=self.lease.fence)

    def registration(self, report: RegistrationReport, volume: Volume, reference: Volume) -> None:
        """A run's registration, with a figure; drawing it takes a fraction of a second."""
        message = run_placed(self.session, report, volume, reference, self.blobs)
        self.emit(f"placed-{report.run}-{report.index}", message)

    def error(self, key: str, error: MindsightError, level: Literal["warning", "error"] = "warning") -> None:
        """An input that could not be carried out."""
        self.emit(key, Warned(session=self.session, t=time.time(), code=error.code, text=str(error), level=level))

    def instructed(
        self,
        change: str,
        instruction: Instruction | Literal["start", "end"],
        run: int | None,
        index: int | None,
        text: str | None = None,
    ) -> None:
        """An instruction that was taken, and its place among the volumes."""
        message = Instructed(
            session=self.session,
            t=time.time(),
            change=change,
            instruction=instruction,
            text=text,
            run=run,
            index=index,
        )
        self.emit(f"instructed-{change}", message)

    def notes(self, run: int, notes: Sequence[Note]) -> None:
        """Messages about a run's events."""
        for note in notes:
            warned = Warned(
                session=self.session, t=time.time(), code=note.code, text=note.text, level=note.level, run=run
            )
            self.emit(f"{note.code}-{run}", warned)

    def alerts(self, alerts: Sequence[Alert], run: int, index: int) -> None:
        """Quality alerts that began or ended with a volume."""
        for alert in alerts:
            warned = Warned(
                session=self.session,
                t=time.time(),
                code=alert.code,
                text=alert.text,
                level=alert.level,
                run=run,
                index=index,
            )
            self.emit(f"alert-{run}-{index}-{alert.code}", warned)

    def space(self, space: SubjectSpace) -> None:
        """Where the session's voxels are, with reference and mask, for those who look at its volumes and betas."""
        mask = replace(space.reference, data=space.mask_XYZ.astype(np.uint8), slice_times_s=None, motion_6=None)
        reference, mask_digest = self.blobs.put_many([encode_volume(space.reference), encode_volume(mask)])
        message = SpaceKnown(
            session=self.session,
            t=time.time(),
            shape=space.reference.shape,
            n_voxels=space.n_voxels,
            reference=reference,
            mask=mask_digest,
        )
        self.emit("space", message)

    def rois(self, entry: TakeVolume, output: VolumeOutput, tr_s: float) -> None:
        """The regions of interest in a volume."""
        if not output.rois:
            return
        message = RoiMeasured(
            session=self.session,
            t=time.time(),
            run=entry.run,
            index=entry.index,
            at_s=entry.index * tr_s,
            censored=output.report.censored,
            rois=tuple(RoiValue(**asdict(value)) for value in output.rois),
        )
        self.emit(f"rois-{entry.run}-{entry.index}", message)

    def volume(self, entry: TakeVolume, output: VolumeOutput, queued_ms: float | None, fd_threshold_mm: float) -> None:
        """A volume's quality.

        queued_ms : from its acknowledgement until the worker took it; None: unknown
        fd_threshold_mm : framewise displacement above which it was censored
        """
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
            censored_by=report.censored_by,
            latency_ms=StageLatency(
                queue=queued_ms,
                motion=timings_ms["motion"],
                glm=timings_ms["glm"],
                estimate=timings_ms["beta"] if output.betas else None,
            ),
        )
        self.emit(f"processed-{entry.run}-{entry.index}", message)
        self.alerts(report.alerts, entry.run, entry.index)
        if report.censored_by is not None:
            self._censored(entry, report, fd_threshold_mm)

    def _censored(self, entry: TakeVolume, report: VolumeReport, fd_threshold_mm: float) -> None:
        if report.censored_by == "pose":
            reason = "no head position matches the reference; check that the series is the right one"
        elif report.censored_by == "motion":
            reason = f"head moved {report.fd_mm:.2f} mm, more than {fd_threshold_mm:g} mm; ask for stillness"
        else:
            reason = "sudden signal change (spike); check the coil if it recurs"
        warned = Warned(
            session=self.session,
            t=time.time(),
            code="volume.censored",
            text=f"volume {entry.index} of run {entry.run} excluded from the analysis: {reason}",
            run=entry.run,
            index=entry.index,
        )
        self.emit(f"censored-{entry.run}-{entry.index}", warned)

    def betas(
        self,
        betas: Sequence[TrialBeta],
        acked_t: float,
        opened: OpenSession,
        repeats: RepeatedBetas,
        decoded_by: DecodedBy,
    ) -> None:
        """Payload, then message, then job: a worker that takes a job finds its beta and its message.

        acked_t : when the gateway logged the input that led to them
        repeats : takes the betas as the newest of their trials
        """
        for beta, stored in zip(betas, self._store(betas), strict=True):
            others = repeats.put(beta.run, beta.trial, (stored.beta, stored.statistics), sound=not beta.flagged)
            logged_t = time.time()
            ready = BetaReady(
                session=self.session,
                t=logged_t,
                run=beta.run,
                trial=beta.trial,
                stage=beta.stage,
                n_volumes=beta.n_volumes,
                n_voxels=beta.beta_V.size,
                flagged=beta.flagged,
                flagged_by=beta.flagged_by,
                beta=stored.beta,
                standard_error=beta.error,
                standard_errors=stored.errors,
                statistics=stored.statistics,
                n_run=beta.n_run,
                latency_ms=StageLatency(beta=CLOCK.since_ms(acked_t)),
            )
            self.emit(f"beta-{beta.run}-{beta.trial}-{beta.stage}", ready)
            if decoded_by.bundle is not None:
                averaged = others if opened.options.average_repeats else []
                self._put_work(beta, stored, averaged, opened, decoded_by, logged_t)

    def _put_work(
        self,
        beta: TrialBeta,
        stored: _Stored,
        averaged: Sequence[tuple[str, str | None]],
        opened: OpenSession,
        decoded_by: DecodedBy,
        logged_t: float,
    ) -> None:
        work = BetaWork(
            session=self.session,
            run=beta.run,
            trial=beta.trial,
            stage=beta.stage,
            beta=stored.beta,
            statistics=stored.statistics,
            voxels=decoded_by.voxels,
            normalised_by=beta.normalised_by,
            n_statistics=beta.n_statistics,
            n_run=beta.n_run,
            warming_up=None if beta.warming_up is None else WarmingUp(**asdict(beta.warming_up)),
            repeats=tuple(Repeat(beta=other, statistics=scored_by) for other, scored_by in averaged),
            pairs=opened.options.pairs,
            flagged=beta.flagged,
            bundle=decoded_by.bundle,
            logged_t=logged_t,
        )
        identity = " ".join([stored.beta, stored.statistics or "", *(other for other, _ in averaged)])
        self.queue.put(work.key, dump_work(work), identity=identity, fence=self.lease.fence)

    def _store(self, betas: Sequence[TrialBeta]) -> list[_Stored]:
        """Put the payloads of all betas; they wait for the disk together."""
        statistics = {
            i: np.stack([beta.mean_V, beta.std_V]) for i, beta in enumerate(betas) if beta.normalised_by != "bundle"
        }
        errors = {i: beta.error_V for i, beta in enumerate(betas) if beta.error_V is not None}
        arrays = [*(beta.beta_V for beta in betas), *statistics.values(), *errors.values()]
        digests = iter(self.blobs.put_many([_bytes(array) for array in arrays]))
        of_betas = [next(digests) for _ in betas]
        of_statistics, of_errors = ({i: next(digests) for i in stored} for stored in (statistics, errors))
        return [_Stored(digest, of_statistics.get(i), of_errors.get(i)) for i, digest in enumerate(of_betas)]


def _degrees(rotation_rad: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    if rotation_rad is None:
        return None
    x, y, z = np.rad2deg(rotation_rad)
    return float(x), float(y), float(z)


def _bytes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()
