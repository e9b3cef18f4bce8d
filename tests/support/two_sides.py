"""A session whose trials light up the left or the right half of a slice: the smallest that can be calibrated."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mindsight.archive import ArchivedEvent, ArchivedRun, ArchivedSession, write_archive
from mindsight.events import RunEvent
from mindsight.journal.declare import Recorder
from mindsight.journal.sessions import SessionRecord
from mindsight.protocol.inputs import AddEvent, SessionOptions, StartRun
from mindsight.subjects.registry import Consent
from mindsight.volume import Volume
from support.house import House

SIDES = SessionOptions(normalise="run", revised_s=None)
TR_S, EVERY_S, N_TRIALS = 2.0, 8.0, 12
N_VOLUMES = 56
CONSENT = Consent(uses={"decoding": "laboratory", "calibration": "laboratory", "export": "institution"}, form="v1")


@dataclass(frozen=True)
class SidesRun:
    """noise : of each voxel, in units of half a response; 0.3 is easy"""

    run: int
    noise: float = 0.3
    labels: tuple[str, ...] = ("left", "right") * (N_TRIALS // 2)

    @property
    def onsets_s(self) -> list[float]:
        return [4.0 + EVERY_S * k for k in range(len(self.labels))]

    def volumes(self) -> list[Volume]:
        rng = np.random.default_rng(self.run)
        x, y = np.mgrid[:12, :10]
        disc = (x - 5.5) ** 2 + (y - 4.5) ** 2 < 16
        found = []
        for index in range(N_VOLUMES):
            plane = 20.0 + 800.0 * disc + rng.normal(0.0, 20.0 * self.noise, disc.shape)
            for onset_s, label in zip(self.onsets_s, self.labels, strict=True):
                height = 40.0 * np.exp(-((index * TR_S - onset_s - 6.0) ** 2) / 8.0)
                plane += height * disc * ((x < 6) if label.startswith("left") else (x >= 6))
            data = plane[:, :, None].astype(np.float32)
            found.append(Volume(data, np.diag([3.0, 3.0, 3.0, 1.0]), TR_S, self.run, index))
        return found

    def events(self) -> list[AddEvent]:
        now = time.time()
        return [
            AddEvent(t=now, run=self.run, trial=k, onset_s=onset_s, duration_s=2.0, label=label)
            for k, (onset_s, label) in enumerate(zip(self.onsets_s, self.labels, strict=True), 1)
        ]


def archived_session(
    house: House, subject: str, session: str, runs: list[SidesRun], candidate_of: Mapping[str, str] | None = None
) -> None:
    """A session as it is when it is archived: in the logs, and in its folder.

    candidate_of : label -> candidate of a pool
    """
    recorder = Recorder(house.bus, session, time.time)
    recorder.open(SessionRecord(session=session, subject=subject, opened_t=time.time()))
    for run in runs:
        recorder.start_run(StartRun(t=time.time(), run=run.run, task="sides", tr_s=TR_S))
        recorder.add_events(run.run, run.events())
        for volume in run.volumes():
            house.put(recorder, volume)
        recorder.end_run(run.run)
    recorder.close()
    folder = house.settings.archive_dir / f"{subject}_{session}"
    write_archive(_archive(subject, session, runs, candidate_of or {}), folder)
    recorder.archive(f"archive/{folder.name}", 1)


def _archive(subject: str, session: str, runs: list[SidesRun], candidate_of: Mapping[str, str]) -> ArchivedSession:
    unknown_T = np.full(N_VOLUMES, np.nan)
    return ArchivedSession(
        subject=subject.removeprefix("sub-"),
        session=session.removeprefix("ses-"),
        runs=[
            ArchivedRun(
                run=run.run,
                task="sides",
                tr_s=TR_S,
                n_volumes=N_VOLUMES,
                volumes=iter(run.volumes()),
                events=[
                    ArchivedEvent(
                        RunEvent(e.onset_s, e.duration_s, e.label), e.trial, None, candidate_of.get(e.label or "")
                    )
                    for e in run.events()
                ],
                motion_T6=np.full((N_VOLUMES, 6), np.nan),
                fd_mm_T=unknown_T,
                dvars_percent_T=unknown_T,
                censored_T=np.zeros(N_VOLUMES, np.bool_),
                series_TV=None,
                residual_T=unknown_T,
                outlier_slices_T=unknown_T,
                high_pass_hz=None,
                registration=None,
                motion_order=None,
                betas={},
                errors={},
            )
            for run in runs
        ],
        mask_XYZ=None,
        affine=None,
        results=[],
        images={},
        provenance={"models": []},
    )


def scan(house: House, recorder: Recorder, run: SidesRun) -> None:
    """The whole run, as fast as possible."""
    recorder.start_run(StartRun(t=time.time(), run=run.run, task="sides", tr_s=TR_S, n_volumes=N_VOLUMES))
    recorder.add_events(run.run, run.events())
    for volume in run.volumes():
        house.put(recorder, volume)
    recorder.end_run(run.run)
