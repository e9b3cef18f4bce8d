"""What one session's results were worth as they came: by stage, over its trials, by label; where its runs were.

Kept as ``session.json`` beside the outputs of an evaluation. Knows nothing of decoders or of the archive's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from mindsight.accuracy import Accuracy
from mindsight.archive.read import DecodedSession
from mindsight.errors import BadRequest
from mindsight.evaluation.calibration_record import RunRegistration
from mindsight.evaluation.drift import RunDrift
from mindsight.evaluation.records import LiveFigure
from mindsight.evaluation.reliability import ReliabilityBin, reliability
from mindsight.stages import STAGES, Stage

SUMMARY = "session.json"
MAX_LABELS = 24  # of a confusion matrix that can still be read
_PARTS = {"trials 1 to 6 of a run": (1, 6), "trials 7 to 15": (7, 15), "trials from 16": (16, 10**9)}
_MAX_BLOCKS, _MIN_PER_BLOCK = 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTrial:
    """One decoded trial at one stage. truth, first : ids of what was shown, and of the first candidate.

    normalised_by : the statistics that its beta was z-scored by; empty if the session does not state it
    """

    run: int
    trial: int
    stage: Stage
    truth: str
    first: str
    confidence: float
    pool_size: int
    normalised_by: str = ""

    @property
    def right(self) -> bool:
        """Whether the first candidate is what was shown."""
        return self.first == self.truth


@dataclass(frozen=True, slots=True)
class Block:
    """Successive trials. title : of the first and the last; middle : their place among the session's trials."""

    title: str
    middle: float
    accuracy: Accuracy


@dataclass(frozen=True, eq=False)
class Confusion:
    """counts_LL : how often trials of a label (row) had a label as their first candidate (column)."""

    labels: tuple[str, ...]
    counts_LL: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionSummary:
    """The session's trials whose image or label is known, in their order; its runs' registrations and drift."""

    trials: tuple[SessionTrial, ...]
    registrations: tuple[RunRegistration, ...] = ()
    drift: tuple[RunDrift, ...] = ()

    def of_stage(self, stage: Stage) -> list[SessionTrial]:
        """The trials at one stage."""
        return [one for one in self.trials if one.stage == stage]

    @property
    def stages(self) -> list[Stage]:
        """Those that have trials."""
        return [stage for stage in STAGES if self.of_stage(stage)]

    def reliability(self, stage: Stage) -> list[ReliabilityBin]:
        """Stated and observed accuracy."""
        trials = self.of_stage(stage)
        return reliability([one.confidence for one in trials], [one.right for one in trials], _chance(trials))

    def parts(self) -> list[LiveFigure]:
        """Accuracy and mean confidence by the trial's number in its run, at each stage."""
        figures = []
        for stage in self.stages:
            for title, (first, last) in _PARTS.items():
                trials = [one for one in self.of_stage(stage) if first <= one.trial <= last]
                if trials:
                    stated = float(np.mean([one.confidence for one in trials]))
                    figures.append(LiveFigure(f"{stage}: {title}", _accuracy(trials), stated))
        return figures

    def blocks(self, stage: Stage) -> list[Block]:
        """Accuracy over the session, in blocks of at least eight successive trials if there are as many."""
        trials = self.of_stage(stage)
        if not trials:
            return []
        n = max(1, min(_MAX_BLOCKS, len(trials) // _MIN_PER_BLOCK))
        blocks = []
        for places in np.array_split(np.arange(len(trials)), n):
            part = [trials[i] for i in places]
            blocks.append(Block(_title(part[0], part[-1]), float(np.mean(places)) + 1.0, _accuracy(part)))
        return blocks

    def confusion(self, stage: Stage) -> Confusion | None:
        """None for more than MAX_LABELS labels."""
        trials = self.of_stage(stage)
        labels = tuple(sorted({one.truth for one in trials} | {one.first for one in trials}))
        if not 1 < len(labels) <= MAX_LABELS:
            return None
        counts_LL = np.zeros((len(labels), len(labels)), np.int64)
        for one in trials:
            counts_LL[labels.index(one.truth), labels.index(one.first)] += 1
        return Confusion(labels, counts_LL)

    def normalised_by(self) -> Mapping[str, int]:
        """How many results were z-scored by which statistics."""
        stated = [one.normalised_by for one in self.trials if one.normalised_by]
        return {name: stated.count(name) for name in dict.fromkeys(stated)}

    def save(self, folder: Path) -> None:
        """Write ``session.json``."""
        (folder / SUMMARY).write_bytes(_SUMMARY.dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> SessionSummary | None:
        """None without the file. Raises BadRequest (``answers.session``)."""
        try:
            return _SUMMARY.validate_json((folder / SUMMARY).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise BadRequest(
                f"expected a session's trials in {SUMMARY}: {error.errors()[0]['msg']}; evaluate the archive again",
                code="answers.session",
            ) from None


_SUMMARY = TypeAdapter(SessionSummary)


def session_trials(session: DecodedSession) -> tuple[SessionTrial, ...]:
    """All results of the trials whose image or label is known."""
    return tuple(
        SessionTrial(
            run=shown.run,
            trial=shown.trial,
            stage=stage,
            truth=shown.truth,
            first=result["candidates"][0]["id"],
            confidence=result["confidence"],
            pool_size=result["pool_size"],
            normalised_by=result.get("normalised_by", ""),
        )
        for stage in STAGES
        for shown in sorted(session.trials, key=lambda one: one.key)
        if shown.truth is not None and (result := session.results.get((*shown.key, stage))) is not None
    )


def _accuracy(trials: Sequence[SessionTrial]) -> Accuracy:
    return Accuracy.of([one.right for one in trials], _chance(trials))


def _chance(trials: Iterable[SessionTrial]) -> float:
    sizes = [1.0 / one.pool_size for one in trials]
    return float(np.mean(sizes)) if sizes else 0.0


def _title(first: SessionTrial, last: SessionTrial) -> str:
    return f"run {first.run} trial {first.trial} to run {last.run} trial {last.trial}"
