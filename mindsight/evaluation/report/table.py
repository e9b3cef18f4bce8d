"""An evaluation as a table in the papers' form, and as JSON.

Knows nothing of files or of HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from mindsight.evaluation.metrics.identification import RetrievalScore
from mindsight.evaluation.metrics.metric import METRICS, Metric, Score
from mindsight.evaluation.records import Evaluation, LiveFigure, Row
from mindsight.evaluation.report.published import PublishedRow, published_rows

FORMAT = 1
_ABSENT = "–"
_WIDTH = 14  # of a heading


@dataclass(frozen=True, slots=True)
class Line:
    """A printed row: ``cells`` and ``intervals`` by column; ``kind`` is ours, control or published."""

    kind: str
    title: str
    cells: list[str]
    intervals: list[str]
    source: str = ""


def columns(evaluation: Evaluation) -> list[Metric]:
    """The published columns, and the regions of brain correlation and captions if they were measured."""
    held = evaluation.rows[0].scores.items()
    return [*METRICS, *(score.metric for key, score in held if key.startswith(("brain_", "caption_")))]


def lines(evaluation: Evaluation) -> list[Line]:
    """Our row, chance and the controls, and the published rows on the same images, in this order."""
    metrics = columns(evaluation)
    return [
        *(_measured(row, metrics) for row in evaluation.rows if not row.control),
        _guess(evaluation.rows[0], metrics),
        *(_measured(row, metrics) for row in evaluation.rows if row.control),
        *(_published(row, metrics) for row in published_rows(evaluation.image_set)),
    ]


HEADINGS = {
    "ours": "measured here",
    "control": "controls: the same without the brain's response to the image",
    "published": "published (Scotti et al. 2024, tables 1, 7, 8), same test images",
}


LIVE_HEADING = "live results, among the candidates of the session's pool"


def live_text(figure: LiveFigure) -> str:
    """The accuracy with its chance, n and interval, and the mean confidence."""
    confidence = "" if figure.confidence is None else f"; mean confidence {figure.confidence:.1%}"
    return f"{figure.accuracy}{confidence}"


def text_table(evaluation: Evaluation) -> str:
    """The table for a terminal, with intervals under the measured rows, and the notes."""
    heads = [wrap(_heading(metric), _WIDTH) for metric in columns(evaluation)]
    body = lines(evaluation)
    widths = [
        max(len(cell) for cell in [*head, *(line.cells[i] for line in body), *(line.intervals[i] for line in body)])
        for i, head in enumerate(heads)
    ]
    first = max(len(line.title) for line in body)

    def put(title: str, cells: list[str]) -> str:
        filled = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([title.ljust(first), *filled]).rstrip()

    out = [f"{evaluation.n_images} images: {evaluation.image_set.title}", ""]
    tallest = max(map(len, heads))
    out += [put("", list(row)) for row in zip(*([""] * (tallest - len(head)) + head for head in heads), strict=True)]
    kind = ""
    for line in body:
        if line.kind != kind:
            out += ["", f"-- {HEADINGS[line.kind]}"]
            kind = line.kind
        out.append(put(line.title, line.cells))
        if any(line.intervals):
            out.append(put("  95 % interval", line.intervals))
    if evaluation.live:
        out += ["", "-- " + LIVE_HEADING, *(f"{figure.title}: {live_text(figure)}" for figure in evaluation.live)]
    out += ["", *(f"not measured: {what}: {why}" for what, why in evaluation.not_measured.items()), *evaluation.notes]
    out += [f"LEAK: {leak}" for leak in evaluation.leaks]
    return "\n".join(out) + "\n"


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The whole evaluation, shares from 0 to 1 (published figures as printed), with the values of each image."""
    return {
        "format": FORMAT,
        "image_set": evaluation.image_set.name,
        "n_images": evaluation.n_images,
        "seed": evaluation.seed,
        "rows": [_row(row) for row in evaluation.rows],
        "not_measured": evaluation.not_measured,
        "notes": evaluation.notes,
        "leaks": evaluation.leaks,
        "live": [_live(figure) for figure in evaluation.live],
        "published": [
            {
                "title": row.title,
                "image_set": row.image_set,
                "source": row.source,
                "figures_as_printed": row.figures,
            }
            for row in published_rows(evaluation.image_set)
        ],
    }


def _live(figure: LiveFigure) -> dict[str, Any]:
    accuracy = figure.accuracy
    return {
        "title": figure.title,
        "control": figure.control,
        "value": accuracy.value,
        "interval_95": accuracy.interval,
        "n": accuracy.n,
        "chance": accuracy.chance,
        "mean_confidence": figure.confidence,
    }


def _row(row: Row) -> dict[str, Any]:
    scores = {key: _score(score, row.intervals[key]) for key, score in row.scores.items()}
    return {"title": row.title, "control": row.control, "scores": scores}


def _score(score: Score, interval: tuple[float, float]) -> dict[str, Any]:
    held = {
        "title": score.metric.title,
        "value": score.value,
        "interval_95": interval,
        "n": score.n,
        "chance": score.metric.chance,
        "higher_is_better": score.metric.higher_is_better,
        "per_picture": [round(float(value), 6) for value in score.values_K],
    }
    if isinstance(score, RetrievalScore):
        held |= {
            "ranked": score.ranked,
            "published_column": score.published_column,
            "candidates": score.pool,
            "draws": len(score.draws_R),
            "interval_95_of_the_draws_as_published": score.draws_interval,
        }
    return held


def _heading(metric: Metric) -> str:
    return f"{metric.title} {'↑' if metric.higher_is_better else '↓'}"


def _measured(row: Row, metrics: list[Metric]) -> Line:
    scores = [row.scores.get(metric.key) for metric in metrics]
    return Line(
        "control" if row.control else "ours",
        row.title,
        [_ABSENT if score is None else _figure(score.metric, score.value) for score in scores],
        ["" if score is None else _span(score.metric, row.intervals[score.metric.key]) for score in scores],
    )


def _guess(ours: Row, metrics: list[Metric]) -> Line:
    """The chance level of each metric that has one."""
    chances = [ours.scores[metric.key].metric.chance if metric.key in ours.scores else None for metric in metrics]
    cells = [
        _ABSENT if chance is None else _figure(metric, chance) for metric, chance in zip(metrics, chances, strict=True)
    ]
    return Line("control", "chance", cells, [""] * len(cells))


def _published(row: PublishedRow, metrics: list[Metric]) -> Line:
    cells = [
        f"{row.figures[metric.key]:.{row.percent_decimals if metric.percent else 3}f}"
        if metric.key in row.figures
        else _ABSENT
        for metric in metrics
    ]
    return Line("published", row.title, cells, [""] * len(cells), row.source)


def _figure(metric: Metric, value: float) -> str:
    return f"{100 * value:.1f}" if metric.percent else f"{value:.3f}"


def _span(metric: Metric, interval: tuple[float, float]) -> str:
    return " to ".join(_figure(metric, value) for value in interval)
