"""The part of an evaluation that is about one session: accuracy over its trials, confidence, confusion, places, drift.

Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import Any

from mindsight.evaluation.calibration_record import RunRegistration
from mindsight.evaluation.report.calibration_json import accuracy_json, reliability_json
from mindsight.evaluation.report.calibration_page import reliability_plots
from mindsight.evaluation.report.parts import accuracy_table, table
from mindsight.evaluation.report.svg import BLUE, GREEN, GREY, ORANGE, Plot
from mindsight.evaluation.session_summary import Confusion, SessionSummary

_COLOURS = {"fast": ORANGE, "revised": GREEN, "final": BLUE}


def session_section(summary: SessionSummary) -> str:
    """HTML; empty if no trial's image or label is known."""
    if not summary.trials:
        return ""
    last = summary.stages[-1]
    confusion = summary.confusion(last)
    parts = [
        "<h2>Over the session</h2>",
        accuracy_table(summary.parts()),
        f"<div class='plots'>{_over_trials(summary)}"
        f"{reliability_plots({stage: summary.reliability(stage) for stage in summary.stages})}</div>",
        "" if confusion is None else f"<h2>Confusion matrix, {last} results</h2>{_confusion(confusion)}",
        _places(summary.registrations),
        _drift(summary),
    ]
    return "\n".join(part for part in parts if part)


def session_json(summary: SessionSummary) -> dict[str, Any]:
    """The same figures."""
    last = summary.stages[-1] if summary.trials else None
    confusion = None if last is None else summary.confusion(last)
    return {
        "by_trial_of_the_run": [
            {"title": one.title, "mean_confidence": one.confidence, **accuracy_json(one.accuracy)}
            for one in summary.parts()
        ],
        "over_trials": {
            stage: [{"trials": block.title, **accuracy_json(block.accuracy)} for block in summary.blocks(stage)]
            for stage in summary.stages
        },
        "reliability": {stage: reliability_json(summary.reliability(stage)) for stage in summary.stages},
        "confusion": None
        if confusion is None
        else {"stage": last, "labels": confusion.labels, "shown_by_first_candidate": confusion.counts_LL.tolist()},
        "registrations": [asdict(place) for place in summary.registrations],
        "drift_since_calibration": [asdict(run) | {"beyond_expected": run.drifted} for run in summary.drift],
        "normalised_by": dict(summary.normalised_by()),
    }


def confusion_text(confusion: Confusion) -> list[str]:
    """For a terminal: a row for each label that was shown."""
    width = max(len(label) for label in confusion.labels)
    cell = max(3, len(str(int(confusion.counts_LL.max()))))
    heads = " ".join(label[:cell].rjust(cell) for label in confusion.labels)
    rows = [f"{'shown, by first candidate'.ljust(width)}", f"{''.ljust(width)} {heads}"]
    rows += [
        f"{label.ljust(width)} {' '.join(str(count).rjust(cell) for count in row)}"
        for label, row in zip(confusion.labels, confusion.counts_LL.tolist(), strict=True)
        if any(row)
    ]
    return rows


def _over_trials(summary: SessionSummary) -> str:
    blocks = {stage: summary.blocks(stage) for stage in summary.stages}
    longest = max(len(summary.of_stage(stage)) for stage in summary.stages)
    plot = Plot(
        "Accuracy over the session", (0.0, longest + 1.0), (0.0, 1.0), x_title="trials of the session", y_title="right"
    )
    chance = blocks[summary.stages[-1]][0].accuracy.chance
    plot.line([(0.0, chance), (longest + 1.0, chance)], GREY, "chance", dashed=True)
    for place, (stage, several) in enumerate(blocks.items()):
        beside = 0.012 * longest * (place - 1)  # so that stages do not hide each other
        notes = [f"{stage}, {block.title}: {block.accuracy}" for block in several]
        plot.points(
            [(block.middle + beside, block.accuracy.value, *block.accuracy.interval) for block in several],
            _COLOURS[stage], stage, notes,
        )  # fmt: skip
    text = "Accuracy over the session, in blocks of successive trials, with 95 % intervals."
    return f"<figure>{plot.svg()}<figcaption>{text}</figcaption></figure>"


def _confusion(confusion: Confusion) -> str:
    heads = "".join(f"<th>{escape(label)}</th>" for label in confusion.labels)
    rows = []
    for i, label in enumerate(confusion.labels):
        counts = confusion.counts_LL[i]
        total = int(counts.sum())
        if total == 0:
            continue
        cells = "".join(
            f"<td style='background:rgba({'111,191,115' if i == j else '230,140,60'},{0.6 * int(count) / total:.2f})'>"
            f"{int(count)}</td>"
            for j, count in enumerate(counts)
        )
        rows.append(f"<tr><td>{escape(label)}</td>{cells}<td>{total}</td></tr>")
    head = f"<tr><th>shown ↓, first candidate →</th>{heads}<th>trials</th></tr>"
    return f"<div class='scroll'><table>{head}{''.join(rows)}</table></div>"


def _places(registrations: tuple[RunRegistration, ...]) -> str:
    if not registrations:
        return ""
    rows = [
        [f"{place.run}", place.how if place.trusted else "refused", f"{place.displacement_mm:.2f} mm",
         f"{place.coverage:.1%}", "–" if place.unexplained is None else f"{place.unexplained:.1%}"]
        for place in registrations
    ]  # fmt: skip
    title = "<h2>Registration of each run's first volume to the bundle's reference</h2>"
    return title + table(["run", "by", "from the calibration", "voxels covered", "unexplained"], rows)


def _drift(summary: SessionSummary) -> str:
    used = ", ".join(f"{name} ({count})" for name, count in summary.normalised_by().items())
    stated = (
        f"<p class='dim'>Results by the statistics that their betas were z-scored by: {escape(used)}.</p>"
        if used
        else ""
    )
    if not summary.drift:
        return stated
    rows = [
        [f"{run.run}", f"{run.betas}", f"{run.shift:.2f}", f"{run.expected_shift:.2f}", f"{run.drifted:.2f}",
         f"{run.spread:.2f}"]
        for run in summary.drift
    ]  # fmt: skip
    heads = ["run", "betas", "shift of the means", "expected without drift", "beyond it", "spread"]
    text = (
        "Shifts are root mean squares over voxels, in the calibration's standard deviations; spread is the median"
        " standard deviation, as a multiple of the calibration's. Z-scores by the session's own statistics (run,"
        " running) take the drift out; those by the bundle's leave it in."
    )
    title = "<h2>Drift of the betas' statistics since the calibration</h2>"
    return f"{title}{table(heads, rows)}<p class='dim'>{text}</p>{stated}"
