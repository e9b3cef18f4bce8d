"""A session without reconstructions as a table, as JSON and as one self-contained page. Knows nothing of files."""

from __future__ import annotations

from html import escape
from typing import Any

from mindsight.evaluation.from_session import SessionEvaluation
from mindsight.evaluation.report.calibration_json import accuracy_json
from mindsight.evaluation.report.parts import accuracy_table, listed, page_start
from mindsight.evaluation.report.session_section import confusion_text, session_json, session_section
from mindsight.evaluation.report.table import LIVE_HEADING, live_text

FORMAT = 1


def session_text(evaluation: SessionEvaluation) -> str:
    """For a terminal."""
    summary = evaluation.summary
    confusion = summary.confusion(summary.stages[-1])
    lines = [
        f"session {evaluation.name}",
        "",
        f"-- {LIVE_HEADING}",
        *(f"{figure.title}: {live_text(figure)}" for figure in evaluation.live),
        "",
        "-- by the trial's number in its run",
        *(f"{figure.title}: {live_text(figure)}" for figure in summary.parts()),
    ]
    if confusion is not None:
        lines += ["", *confusion_text(confusion)]
    lines += ["", *(f"run {place.run}: {place.text or place.how}" for place in summary.registrations)]
    lines += [
        f"run {run.run}: the betas' means are {run.shift:.2f} standard deviations from the calibration's (expected"
        f" without drift {run.expected_shift:.2f}), their spread is {run.spread:.2f} times as large"
        for run in summary.drift
    ]
    lines += [*evaluation.notes, *(f"LEAK: {leak}" for leak in evaluation.leaks)]
    return "\n".join(lines) + "\n"


def session_page_json(evaluation: SessionEvaluation) -> dict[str, Any]:
    """The whole evaluation."""
    return {
        "format": FORMAT,
        "session": evaluation.name,
        "live": [
            {
                "title": one.title,
                "control": one.control,
                "mean_confidence": one.confidence,
                **accuracy_json(one.accuracy),
            }
            for one in evaluation.live
        ],
        **session_json(evaluation.summary),
        "notes": list(evaluation.notes),
        "leaks": list(evaluation.leaks),
    }


def session_page(evaluation: SessionEvaluation) -> str:
    """The page."""
    title = escape(f"Session {evaluation.name}")
    parts = [
        page_start(title),
        f"<h1>{title}</h1>",
        *(f"<p class='warning'>⚠ {escape(leak)}</p>" for leak in evaluation.leaks),
        f"<h2>{LIVE_HEADING[0].upper() + LIVE_HEADING[1:]}</h2>",
        accuracy_table(evaluation.live),
        session_section(evaluation.summary),
        listed("Notes", evaluation.notes),
        "</html>",
    ]
    return "\n".join(part for part in parts if part)
