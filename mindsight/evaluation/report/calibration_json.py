"""A calibration's report in figures: what the page draws, for programs. Knows nothing of files or of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mindsight.accuracy import Accuracy
from mindsight.evaluation.calibration_record import CalibrationRecord, LeftOutTrial
from mindsight.evaluation.records import LiveFigure
from mindsight.evaluation.reliability import ReliabilityBin, calibration_error, reliability
from mindsight.evaluation.verdict import READY_SHARE, Verdict
from mindsight.stages import STAGES

FORMAT = 1


@dataclass(frozen=True, eq=False)
class CalibrationFigures:
    """What follows from a record.

    retrieval : both ways and stage by stage, then the controls
    reliability : of each stage that was decoded
    """

    retrieval: tuple[LiveFigure, ...]
    reliability: dict[str, list[ReliabilityBin]]
    verdict: Verdict


def retrieval_figures(record: CalibrationRecord) -> tuple[LiveFigure, ...]:
    """Image retrieval (first and first five), brain retrieval, and the controls."""
    figures: list[LiveFigure] = []
    for stage in STAGES:
        trials = record.of_stage(stage)
        if not trials:
            continue
        stated = sum(one.confidence for one in trials) / len(trials)
        figures.append(LiveFigure(f"{stage}: image retrieval, first of {record.pool_size}", _images(trials, 1), stated))
        if record.pool_size > 5:
            figures.append(LiveFigure(f"{stage}: image retrieval, among the first five", _images(trials, 5)))
        brains = _brains(trials)
        many = sum(one.n_brains for one in trials) / len(trials)
        figures.append(LiveFigure(f"{stage}: brain retrieval, first of {many:.0f}", brains))
    figures += [LiveFigure(f"control: {one.what}", one.accuracy, control=True) for one in record.controls]
    return tuple(figures)


def reliability_of(trials: Sequence[LeftOutTrial]) -> list[ReliabilityBin]:
    """Stated and observed accuracy of the first candidate."""
    if not trials:
        return []
    right = [one.first == one.image for one in trials]
    return reliability([one.confidence for one in trials], right, 1.0 / trials[0].n_images)


def report_json(record: CalibrationRecord, figures: CalibrationFigures) -> dict[str, Any]:
    """Shares from 0 to 1; every accuracy with its hits, n, chance and interval."""
    return {
        "format": FORMAT,
        "subject": record.subject,
        "created": record.created,
        "decoder": record.decoder,
        "held_out": record.held_out,
        "pool_size": record.pool_size,
        "voxels": record.voxels,
        "minutes": record.minutes,
        "verdict": asdict(figures.verdict) | {"headline": figures.verdict.headline, "ready_share": READY_SHARE},
        "retrieval": [
            {
                "title": one.title,
                "control": one.control,
                "mean_confidence": one.confidence,
                **accuracy_json(one.accuracy),
            }
            for one in figures.retrieval
        ],
        "learning_curve": [
            {"trials": point.trials, "minutes": point.minutes, **accuracy_json(point.accuracy)}
            for point in record.curve
        ],
        "reliability": {stage: reliability_json(bins) for stage, bins in figures.reliability.items()},
        "noise_ceiling": None
        if record.ceiling is None
        else asdict(record.ceiling)
        | {"identified": None if record.ceiling.identified is None else accuracy_json(record.ceiling.identified)},
        "runs": [asdict(run) for run in record.runs],
        "registrations": [asdict(place) for place in record.registrations],
        "reconstructions": [asdict(one) for one in record.drawn],
    }


def reliability_json(bins: Sequence[ReliabilityBin]) -> dict[str, Any]:
    """The bins, and their mean distance from honesty."""
    return {
        "calibration_error": calibration_error(bins),
        "bins": [{"stated": one.stated, **accuracy_json(one.observed)} for one in bins],
    }


def accuracy_json(accuracy: Accuracy) -> dict[str, Any]:
    """With its interval."""
    return {
        "value": accuracy.value,
        "hits": accuracy.hits,
        "n": accuracy.n,
        "chance": accuracy.chance,
        "interval_95": accuracy.interval,
    }


def _images(trials: Sequence[LeftOutTrial], k: int) -> Accuracy:
    chance = sum(min(k / one.n_images, 1.0) for one in trials) / len(trials)
    return Accuracy(sum(one.image_rank <= k for one in trials), len(trials), chance)


def _brains(trials: Sequence[LeftOutTrial]) -> Accuracy:
    chance = sum(1.0 / one.n_brains for one in trials) / len(trials)
    return Accuracy(sum(one.brain_rank == 1 for one in trials), len(trials), chance)
