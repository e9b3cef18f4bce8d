"""``python -m workers.jobs.archive SESSION``: writes the archive of a closed session, once its last answer is there.

Knows nothing of how answers come about: it reads the logs and the blobs, which say all there is to know.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight import __version__
from mindsight.archive import (
    ArchivedEvent,
    ArchivedRegistration,
    ArchivedResult,
    ArchivedRun,
    ArchivedSession,
    write_archive,
)
from mindsight.blobs import BlobStore
from mindsight.bus import Bus, WorkQueue
from mindsight.errors import MindsightError
from mindsight.events import RunEvent
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.protocol import (
    BetaReady,
    Captioned,
    Message,
    Reconstruction,
    Result,
    RunPlaced,
    SessionArchived,
    VolumeProcessed,
)
from mindsight.protocol.inputs import AddEvent, OpenSession, SkipVolume, StartRun, TakeVolume
from mindsight.settings import Settings, read_settings
from mindsight.stages import Stage
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from workers.ingest.runner import series_path
from workers.ingest.snapshot import Snapshot, read_snapshot

ANSWERS_DEADLINE_S = 120.0
POLL_S = 0.25
BUS_DEADLINE_S = 30.0


@dataclass(frozen=True, eq=False)
class Blobs(Mapping[str, bytes]):
    """Images by digest, read when they are asked for."""

    store: BlobStore

    def __getitem__(self, digest: str) -> bytes:
        try:
            return self.store.get(digest)
        except MindsightError:
            raise KeyError(digest) from None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, eq=False)
class Betas(Mapping[tuple[int, Stage], NDArray[np.float32]]):
    """One run's betas, read when they are asked for."""

    store: BlobStore
    digests: dict[tuple[int, Stage], str]

    def __getitem__(self, answer: tuple[int, Stage]) -> NDArray[np.float32]:
        return np.frombuffer(self.store.get(self.digests[answer]), dtype="<f4")

    def __iter__(self) -> Iterator[tuple[int, Stage]]:
        return iter(self.digests)

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True, eq=False)
class Archivist:
    """Gathers one session from its logs and writes it out."""

    settings: Settings
    bus: Bus
    session: str

    @property
    def journal(self) -> Journal:
        return Journal(self.bus, self.session)

    def archive(self) -> Path:
        """Wait for the last answers, write the archive, say so in the session's log. Repeating it changes nothing."""
        recorder = Recorder(self.bus, self.session, time.time)
        recorder.check_closed()
        messages = self._await_answers()
        name = f"{self.journal.opened().subject}_{self.session}"
        folder = self.settings.archive_dir / name
        if not any(isinstance(message, SessionArchived) for message in messages):
            shutil.rmtree(folder, ignore_errors=True)  # written whole, but not said: write it again
            files = write_archive(self._gather(messages), folder)
            recorder.archive(f"archive/{name}", len(files))
        else:
            Sessions(self.bus).advance(self.session, "archived")
        return folder

    def _await_answers(self) -> list[Message]:
        """All messages, once every beta has its answer and its picture, or nobody works on any more, or the deadline.

        Every job was queued before the session was closed, and a job leaves its queue only when what follows from it is
        written (a picture's job too), or when it was refused. So empty queues mean that there is nothing to wait for.
        """
        queues = [WorkQueue(self.bus, name) for name in ("inference", "pictures")]
        deadline = time.monotonic() + ANSWERS_DEADLINE_S
        while True:
            idle = all(len(queue) == 0 for queue in queues)  # looked at first: what they led to is in the log then
            messages = list(self.journal.read_messages())
            betas = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, BetaReady)}
            answered = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, Result)}
            drawn = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, Reconstruction)}
            said = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, Captioned)}
            complete = betas <= answered & drawn and (self.settings.captions_dir is None or betas <= said)
            if complete or idle or self.journal.opened().bundle is None or time.monotonic() > deadline:
                return messages
            time.sleep(POLL_S)

    def _gather(self, messages: list[Message]) -> ArchivedSession:
        inputs = list(self.journal.read_inputs())
        opened = self.journal.opened()
        runs = [entry for entry in inputs if isinstance(entry, StartRun)]
        blobs = BlobStore(self.settings.blobs_dir)
        spaces = {run.run: read_snapshot(series_path(self.settings, self.session, run.run)) for run in runs}
        space = next((found for found in spaces.values() if found is not None), None)
        return ArchivedSession(
            subject=opened.subject.removeprefix("sub-"),
            session=self.session.removeprefix("ses-"),
            runs=[self._run(run, inputs, messages, blobs, spaces[run.run]) for run in runs],
            mask_XYZ=None if space is None else space.arrays["mask_XYZ"].astype(np.bool_),
            affine=None if space is None else space.arrays["affine"],
            results=_results(messages),
            images=Blobs(blobs),
            provenance=_provenance(opened, messages),
        )

    def _run(
        self,
        run: StartRun,
        inputs: list[Any],
        messages: list[Message],
        blobs: BlobStore,
        space: Snapshot | None,
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

        motion_T6 = np.full((n, 6), np.nan)
        for index, report in reports.items():
            if report.translation_mm is not None and report.rotation_deg is not None:
                motion_T6[index] = [*report.translation_mm, *np.deg2rad(report.rotation_deg)]
        return ArchivedRun(
            run=run.run,
            task=run.task,
            tr_s=run.tr_s,
            n_volumes=n,
            volumes=volumes(),
            events=[_event(e) for e in inputs if isinstance(e, AddEvent) and e.run == run.run],
            motion_T6=motion_T6,
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
            betas=Betas(blobs, betas) if space is not None else {},
            errors=Betas(blobs, errors) if space is not None else {},
        )


def _column(
    reports: dict[int, VolumeProcessed], n: int, of: Callable[[VolumeProcessed], float | None]
) -> NDArray[np.float64]:
    values = [of(reports[index]) if index in reports else None for index in range(n)]
    return np.array([np.nan if value is None else value for value in values], np.float64)


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


def _results(messages: list[Message]) -> list[ArchivedResult]:
    drawn = {(m.run, m.trial, m.stage): m for m in messages if isinstance(m, Reconstruction)}
    said = {(m.run, m.trial, m.stage): m for m in messages if isinstance(m, Captioned)}
    answers = []
    for result in (m for m in messages if isinstance(m, Result)):
        picture = drawn.get((result.run, result.trial, result.stage))
        details: dict[str, Any] = {"result": result.model_dump(mode="json", exclude_none=True)}
        if picture is not None:
            details["drawing"] = picture.model_dump(mode="json", exclude_none=True)
        caption = said.get((result.run, result.trial, result.stage))
        if caption is not None:
            details["captioning"] = caption.model_dump(mode="json", exclude_none=True)
        first = result.candidates[0]
        answers.append(
            ArchivedResult(
                run=result.run,
                trial=result.trial,
                stage=result.stage,
                confidence=result.confidence,
                retrieved=first.image,
                retrieved_label=first.label or first.id,
                reconstruction=None if picture is None else picture.image,
                caption=None if caption is None else caption.text,
                details=details,
            )
        )
    return answers


def _provenance(opened: OpenSession, messages: list[Message]) -> dict[str, Any]:
    return {
        "mindsight": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "bundle": opened.bundle,
        "options": opened.options.model_dump(mode="json", exclude_none=True),
        "models": sorted({m.model for m in messages if isinstance(m, Result)}),
        "pools": sorted({m.pool for m in messages if isinstance(m, Result)}),
        "generators": sorted({m.generator for m in messages if isinstance(m, Reconstruction)}),
        "captioners": sorted({m.model for m in messages if isinstance(m, Captioned)}),
    }


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m workers.jobs.archive SESSION", file=sys.stderr)
        return 2
    try:
        settings = read_settings()
        bus = Bus.from_settings(settings)
        bus.wait_ready(BUS_DEADLINE_S)
        folder = Archivist(settings, bus, sys.argv[1]).archive()
    except MindsightError as error:
        print(f"archive: session {sys.argv[1]}: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"mindsight archive written: {folder}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
