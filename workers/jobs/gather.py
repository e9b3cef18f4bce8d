"""A session as its archive holds it, from its logs, its blobs and its runs' realigned voxels.

Knows nothing of queues or of how the archive is written. T volumes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight import __version__
from mindsight.archive import ArchivedEvent, ArchivedRegistration, ArchivedResult, ArchivedRun, ArchivedSession
from mindsight.blobs import Blobs, open_blobs, open_shown
from mindsight.errors import Diverged, NotFound
from mindsight.events import RunEvent
from mindsight.journal.read import Journal
from mindsight.protocol import (
    BetaReady,
    Captioned,
    Instructed,
    Message,
    Reconstruction,
    ReconstructionFit,
    ReconstructionSkipped,
    Result,
    RunPlaced,
    VolumeProcessed,
)
from mindsight.protocol.inputs import AddEvent, Input, OpenSession, SkipVolume, StartRun, TakeVolume
from mindsight.settings import Settings
from mindsight.stages import VERSIONS, Stage
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from workers.ingest.runner import series_path
from workers.ingest.snapshot import Snapshot, read_snapshot


@dataclass(frozen=True, eq=False)
class _Images(Mapping[str, bytes]):
    """Images by digest, read on access: those that were made, and those that were shown."""

    stores: Sequence[Blobs]

    def __getitem__(self, digest: str) -> bytes:
        for store in self.stores:
            with suppress(NotFound, Diverged):
                return store.get(digest)
        raise KeyError(digest)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, eq=False)
class _Betas(Mapping[tuple[int, Stage], NDArray[np.float32]]):
    """One run's betas by trial and stage, read on access."""

    store: Blobs
    digests: dict[tuple[int, Stage], str]

    def __getitem__(self, result: tuple[int, Stage]) -> NDArray[np.float32]:
        return np.frombuffer(self.store.get(self.digests[result]), dtype="<f4")

    def __iter__(self) -> Iterator[tuple[int, Stage]]:
        return iter(self.digests)

    def __len__(self) -> int:
        return len(self.digests)


def gather_session(journal: Journal, session: str, messages: Sequence[Message], settings: Settings) -> ArchivedSession:
    """messages : all of the session's log"""
    inputs = list(journal.read_inputs())
    opened = journal.opened()
    measured = {entry.run for entry in inputs if isinstance(entry, TakeVolume)}  # a run may be declared and never come
    runs = [entry for entry in inputs if isinstance(entry, StartRun) and entry.run in measured]
    blobs = open_blobs(settings)
    spaces = {run.run: read_snapshot(series_path(settings, session, run.run)) for run in runs}
    space = next((found for found in spaces.values() if found is not None), None)
    return ArchivedSession(
        subject=opened.subject.removeprefix("sub-"),
        session=session.removeprefix("ses-"),
        runs=[_run(run, inputs, messages, blobs, spaces[run.run]) for run in runs],
        mask_XYZ=None if space is None else space.arrays["mask_XYZ"].astype(np.bool_),
        affine=None if space is None else space.arrays["affine"],
        results=_results(messages),
        images=_Images((blobs, open_shown(settings))),
        provenance=_provenance(opened, messages),
    )


def _run(
    run: StartRun, inputs: Sequence[Input], messages: Sequence[Message], blobs: Blobs, space: Snapshot | None
) -> ArchivedRun:
    taken = {e.index: e for e in inputs if isinstance(e, TakeVolume | SkipVolume) and e.run == run.run}
    reports = {m.index: m for m in messages if isinstance(m, VolumeProcessed) and m.run == run.run}
    betas = {(m.trial, m.stage): m.beta for m in messages if isinstance(m, BetaReady) and m.run == run.run}
    errors = {
        (m.trial, m.stage): m.standard_errors
        for m in messages
        if isinstance(m, BetaReady) and m.run == run.run and m.standard_errors is not None
    }
    n = len(taken)

    def volumes() -> Iterator[Volume | None]:
        for index in range(n):
            entry = taken[index]
            yield decode_volume(blobs.get(entry.digest)) if isinstance(entry, TakeVolume) else None

    return ArchivedRun(
        run=run.run,
        task=run.task,
        tr_s=run.tr_s,
        n_volumes=n,
        volumes=volumes(),
        events=[_event(e) for e in inputs if isinstance(e, AddEvent) and e.run == run.run],
        motion_T6=_motion(reports, n),
        fd_mm_T=_column(reports, n, lambda report: report.fd_mm),
        dvars_percent_T=_column(reports, n, lambda report: report.dvars_percent),
        censored_T=np.array([index not in reports or reports[index].censored for index in range(n)], np.bool_),
        series_TV=None if space is None else space.arrays["series_TV"],
        residual_T=_column(reports, n, lambda report: report.residual),
        outlier_slices_T=_column(
            reports, n, lambda report: None if report.residual is None else float(len(report.outlier_slices))
        ),
        high_pass_hz=None if space is None else space.document["options"]["high_pass_hz"],
        registration=_registration([m for m in messages if isinstance(m, RunPlaced) and m.run == run.run]),
        motion_order=run.motion,
        betas=_Betas(blobs, betas) if space is not None else {},
        errors=_Betas(blobs, errors) if space is not None else {},
    )


def _column(
    reports: dict[int, VolumeProcessed], n: int, of: Callable[[VolumeProcessed], float | None]
) -> NDArray[np.float64]:
    """(T,) one figure of each volume; NaN if it is unknown."""
    values = [of(reports[index]) if index in reports else None for index in range(n)]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _motion(reports: dict[int, VolumeProcessed], n: int) -> NDArray[np.float64]:
    """(T, 6) translations in mm, rotations in radians; NaN if they are unknown."""
    motion_T6 = np.full((n, 6), np.nan)
    for index, report in reports.items():
        if report.translation_mm is not None and report.rotation_deg is not None:
            motion_T6[index] = [*report.translation_mm, *np.deg2rad(report.rotation_deg)]
    return motion_T6


def _registration(found: list[RunPlaced]) -> ArchivedRegistration | None:
    """The last registration of a run, which is the most accurate."""
    if not found:
        return None
    details = found[-1].model_dump(
        mode="json", include={"index", "how", "displacement_mm", "coverage", "unexplained", "margin", "overlap", "text"}
    )
    return ArchivedRegistration(np.array(found[-1].reference_to_run).reshape(4, 4), details, found[-1].image)


def _event(entry: AddEvent) -> ArchivedEvent:
    event = RunEvent(entry.onset_s, entry.duration_s, entry.label, entry.stim_file or entry.candidate)
    return ArchivedEvent(event, entry.trial, entry.stimulus, entry.candidate)


def _results(messages: Sequence[Message]) -> list[ArchivedResult]:
    made = sorted((m for m in messages if isinstance(m, Reconstruction)), key=lambda m: VERSIONS.index(m.version))
    reconstructions = {(m.run, m.trial, m.stage): m for m in made}  # of each stage the latest version
    skipped = {(m.run, m.trial, m.stage): m for m in messages if isinstance(m, ReconstructionSkipped)}
    fits = {(m.run, m.trial, m.stage, m.image): m for m in messages if isinstance(m, ReconstructionFit)}
    captions = {(m.run, m.trial, m.stage): m for m in messages if isinstance(m, Captioned)}
    results = []
    for result in (m for m in messages if isinstance(m, Result)):
        reconstruction = reconstructions.get((result.run, result.trial, result.stage))
        details: dict[str, Any] = {"result": result.model_dump(mode="json", exclude_none=True)}
        fit = None
        if reconstruction is not None:
            details["drawing"] = reconstruction.model_dump(mode="json", exclude_none=True)
            fit = fits.get((result.run, result.trial, result.stage, reconstruction.image))
        if fit is not None:
            details["fit"] = fit.model_dump(mode="json", exclude_none=True)
        without = skipped.get((result.run, result.trial, result.stage))
        if without is not None and reconstruction is None:
            details["not_drawn"] = without.text
        caption = captions.get((result.run, result.trial, result.stage))
        if caption is not None:
            details["captioning"] = caption.model_dump(mode="json", exclude_none=True)
        first = result.candidates[0]
        results.append(
            ArchivedResult(
                run=result.run,
                trial=result.trial,
                stage=result.stage,
                confidence=result.confidence,
                retrieved=first.image,
                retrieved_label=first.label or first.id,
                reconstruction=None if reconstruction is None else reconstruction.image,
                token_cosine=None if fit is None else fit.token_cosine,
                fit_percentile=None if fit is None else fit.fit_percentile,
                from_ranking=None if reconstruction is None else reconstruction.from_ranking,
                caption=None if caption is None else caption.text,
                details=details,
            )
        )
    return results


def _provenance(opened: OpenSession, messages: Sequence[Message]) -> dict[str, Any]:
    return {
        "mindsight": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "bundle": opened.bundle,
        "options": opened.options.model_dump(mode="json", exclude_none=True),
        "instructions": [
            m.model_dump(mode="json", include={"t", "instruction", "text", "run", "index"}, exclude_none=True)
            for m in messages
            if isinstance(m, Instructed) and m.instruction not in ("start", "end")
        ],
        "models": sorted({m.model for m in messages if isinstance(m, Result)}),
        "pools": sorted({m.pool for m in messages if isinstance(m, Result)}),
        "generators": sorted({m.generator for m in messages if isinstance(m, Reconstruction)}),
        "encoders": sorted({m.encoder for m in messages if isinstance(m, ReconstructionFit)}),
        "captioners": sorted({m.model for m in messages if isinstance(m, Captioned)}),
    }
