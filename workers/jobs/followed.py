"""A session that is being scanned, as a calibration sees it: what its trials showed, its betas, its voxels.

Knows nothing of decoders. The session's log has everything, so that a job that was ended reads it from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from mindsight.blobs import open_blobs
from mindsight.bus import Bus, read_many
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.journal.read import Journal
from mindsight.preprocessing.quality.baseline import measure_signal
from mindsight.protocol import (
    BetaReady,
    EventAdded,
    Message,
    RunEnded,
    RunStarted,
    SessionArchived,
    SessionClosed,
    VolumeProcessed,
    read_message,
)
from mindsight.settings import Settings
from mindsight.volume import Volume
from training.calibration.visit_runs import CalibrationRun
from workers.ingest.runner import series_path
from workers.ingest.snapshot import read_snapshot

BLOCK_S = 0.5


@dataclass
class _Run:
    tr_s: float
    labels: dict[int, str] = field(default_factory=dict)
    betas: list[TrialBeta] = field(default_factory=list)
    censored: dict[int, bool] = field(default_factory=dict)
    ended: bool = False


@dataclass
class FollowedSession:
    """One session up to the last message that was read.

    candidates : of the pool, whose ids name the trials; None: their labels do. Other trials are left out
    """

    settings: Settings
    bus: Bus
    session: str
    candidates: frozenset[str] | None
    position: int = 0
    closed: bool = False
    archived: bool = False
    space: SubjectSpace | None = None
    signals: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    _runs: dict[int, _Run] = field(default_factory=dict)
    _finished: dict[int, int] = field(default_factory=dict)
    _estimated: list[int] = field(default_factory=list)

    def read(self) -> int:
        """Take what has come since; waits up to BLOCK_S. The number of messages."""
        log = Journal(self.bus, self.session).messages
        found = read_many({log: self.position}, BLOCK_S).get(log, [])
        for entry in found:
            self._take(read_message(entry.payload, entry.seq, self.session))
            self.position = entry.seq
        self._look()
        return len(found)

    def estimated(self) -> list[int]:
        """The runs whose final betas have all been read, in their order."""
        return list(self._estimated)

    def _look(self) -> None:
        """Which runs ingest has finished, and of which all messages that were there then have been read."""
        for number, run in self._runs.items():
            if number not in self._finished:
                later = any(other.censored for n, other in self._runs.items() if n > number)
                there = (run.ended or later or self.closed) and self._read_series(number)
                if there or later or self.archived:
                    self._finished[number] = Journal(self.bus, self.session).messages.last_seq()
            elif number not in self._estimated and self.position >= self._finished[number] and self._finals(number):
                self._estimated.append(number)

    @property
    def over(self) -> bool:
        """Whether the session is archived, and all of it has been read."""
        read = all(self.position >= self._finished.get(number, inf) for number in self._runs)
        return self.archived and read and all(n in self._estimated or not self._finals(n) for n in self._runs)

    def run(self, number: int) -> CalibrationRun:
        run = self._runs[number]
        return CalibrationRun(
            run=number,
            betas=tuple(run.betas),
            shown=dict(run.labels),
            minutes=self.minutes([number]),
            signal_2V=self.signals.get(number),
        )

    def labels(self, runs: Sequence[int]) -> tuple[str, ...]:
        """All that the trials of these runs showed, sorted."""
        return tuple(sorted({label for number in runs for label in self._runs[number].labels.values()}))

    @property
    def n_trials(self) -> int:
        """Labelled trials with a beta at any stage."""
        return sum(len({beta.trial for beta in run.betas} & set(run.labels)) for run in self._runs.values())

    def minutes(self, runs: Sequence[int]) -> float:
        """Of scanning in these runs."""
        return sum(len(self._runs[number].censored) * self._runs[number].tr_s for number in runs) / 60.0

    def _finals(self, number: int) -> list[TrialBeta]:
        run = self._runs[number]
        return [beta for beta in run.betas if beta.stage == "final" and beta.trial in run.labels]

    def _take(self, message: Message) -> None:
        match message:
            case RunStarted():
                self._runs.setdefault(message.run, _Run(message.tr_s))
            case EventAdded() if message.trial is not None:
                shown = message.label if self.candidates is None else message.candidate
                if shown is not None and (self.candidates is None or shown in self.candidates):
                    self._runs[message.run].labels[message.trial] = shown
            case VolumeProcessed():
                self._runs[message.run].censored[message.index] = message.censored
            case BetaReady():
                self._runs[message.run].betas.append(self._beta(message))
            case RunEnded():
                self._runs[message.run].ended = True
            case SessionClosed():
                self.closed = True
            case SessionArchived():
                self.archived = True
            case _:
                pass

    def _beta(self, ready: BetaReady) -> TrialBeta:
        blobs = open_blobs(self.settings)
        beta_V = np.frombuffer(blobs.get(ready.beta), dtype="<f4")
        mean_V, std_V = np.zeros_like(beta_V), np.ones_like(beta_V)
        if ready.statistics is not None:
            mean_V, std_V = np.frombuffer(blobs.get(ready.statistics), dtype="<f4").reshape(2, -1)
        return TrialBeta(
            run=ready.run,
            trial=ready.trial,
            stage=ready.stage,
            beta_V=beta_V,
            error_V=None,
            error=ready.standard_error,
            n_volumes=ready.n_volumes,
            flagged=ready.flagged,
            mean_V=mean_V,
            std_V=std_V,
            n_statistics=0,
            normalised_by="run" if mean_V.any() else "none",
            n_run=ready.n_run,
        )

    def _read_series(self, number: int) -> bool:
        """Whether ingest has written the run's voxels at its end, and the archive has not taken them yet."""
        found = read_snapshot(series_path(self.settings, self.session, number))
        if found is None:
            return False
        if self.space is None:
            tr_s = self._runs[number].tr_s
            reference = Volume(found.arrays["reference_XYZ"], found.arrays["affine"], tr_s, run=1, index=0)
            self.space = SubjectSpace(reference, found.arrays["mask_XYZ"].astype(np.bool_))
        if number not in self.signals:
            series_TV, censored = found.arrays["series_TV"], self._runs[number].censored
            kept_T = np.array([not censored.get(index, True) for index in range(len(series_TV))])
            if kept_T.any():
                self.signals[number] = measure_signal(series_TV[kept_T])
        return True
