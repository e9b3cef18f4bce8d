"""A session's report as one page that loads nothing: quality, motion, accuracy, latency, pictures, methods, versions.

Knows nothing of archives but the files that it is handed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindsight.evaluation.report.parts import accuracy_table, page_start, table
from mindsight.evaluation.report.session_section import session_section
from mindsight.evaluation.report.svg import BLUE, GREEN, GREY, ORANGE, Plot
from mindsight.files.images import image_kind
from mindsight.stages import STAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mindsight.archive.read import ShownTrial
    from mindsight.evaluation.visit_report import RunCourse, Visit

N_SHOWN = 24
_AXES = (("x", BLUE), ("y", ORANGE), ("z", GREEN))


def visit_page(visit: Visit) -> str:
    """The page."""
    title = escape(f"Session {visit.session} of sub-{visit.subject}")
    parts = [
        page_start(title),
        f"<h1>{title}</h1><p class='dim'>{escape(_in_short(visit))}</p>",
        "<h2>Quality</h2>",
        _quality(visit.runs),
        "<h2>Motion</h2><div class='plots'>",
        *(_motion(course) for course in visit.runs),
        "</div>",
        _registrations(visit.runs),
        "<h2>Accuracy as the results came, by stage</h2>",
        accuracy_table(visit.live) if visit.live else "<p class='dim'>no trial with a known image was decoded</p>",
        "<p class='dim'>Each result was counted when it came and is not revised here. Interval: 95 %, Wilson. The last"
        " line compares results with what other trials showed, and must be at chance.</p>",
        session_section(visit.summary),
        "<h2>Latency</h2>",
        _latency(visit),
        _pictures(visit),
        f"<h2>Methods</h2><p>{escape(methods(visit))}</p><p class='dim'>This text may be used as it is (CC0).</p>",
        "<h2>Versions</h2>",
        table(("what", "which"), [(name, value) for name, value in _flat(visit.provenance)]),
        "</html>",
    ]
    return "\n".join(part for part in parts if part)


def methods(visit: Visit) -> str:
    """What was done, for a paper: only what the archive states."""
    runs = visit.runs
    times = sorted({course.tr_s for course in runs})
    stages = [stage for stage in STAGES if stage in visit.latencies_ms]
    pools = sorted({int(result["pool_size"]) for result in visit.decoded.results.values() if "pool_size" in result})
    by = sorted({str(result.get("normalised_by")) for result in visit.decoded.results.values()} - {"None"})
    text = (
        f"Functional volumes of {len(runs)} run{'s' if len(runs) != 1 else ''}"
        f" (TR {' and '.join(f'{tr_s:g} s' for tr_s in times)}) were processed in real time by Mindsight"
        f" {visit.provenance.get('mindsight', '')}. Each volume was realigned to the subject's reference as it arrived"
        " (rigid body, six parameters); framewise displacement follows Power et al. (2012). Single-trial betas were"
        " estimated by a least-squares-separate model that is updated with each volume, with cosine drifts and six"
        f" motion parameters, at {_listed(stages) or 'no'} stage{'s' if len(stages) != 1 else ''} of each trial, so"
        " that no result depends on later volumes."
    )
    if pools:
        text += (
            f" Betas were z-scored ({_listed(by)} statistics) and decoded into image features, by which the images of a"
            f" pool of {_listed([str(n) for n in pools])} were ranked."
        )
    if visit.decoded.reconstructions:
        text += " Images were reconstructed from the same features by a diffusion model."
    return text


def _in_short(visit: Visit) -> str:
    minutes = sum(course.minutes for course in visit.runs)
    left_out = sum(int(course.censored_T.sum()) for course in visit.runs)
    total = sum(len(course.fd_mm_T) for course in visit.runs)
    return (
        f"{len(visit.runs)} runs, {total} volumes, {minutes:.1f} min, {left_out} volumes left out of the betas;"
        f" {len(visit.decoded.trials)} trials, {len(visit.decoded.results)} results,"
        f" {len(visit.decoded.reconstructions)} reconstructions"
    )


def _quality(runs: Sequence[RunCourse]) -> str:
    heads = ("run", "task", "volumes", "missing", "left out", "usable", "FD, mean", "FD, worst", "DVARS, median")
    rows = []
    for course in runs:
        n = len(course.fd_mm_T)
        usable = 1.0 - float(course.censored_T.mean()) if n else 0.0
        counts = (str(n), str(int(course.missing_T.sum())), str(int(course.censored_T.sum())), f"{usable:.0%}")
        figures = (
            _figure(course.fd_mm_T, np.nanmean, "mm"),
            _figure(course.fd_mm_T, np.nanmax, "mm"),
            _figure(course.dvars_T, np.nanmedian, "%"),
        )
        rows.append((str(course.run), course.task, *counts, *figures))
    return table(heads, rows)


def _figure(values_T: NDArray[np.float64], of: Any, unit: str) -> str:
    return "not measured" if not np.isfinite(values_T).any() else f"{float(of(values_T)):.2f} {unit}"


def _motion(course: RunCourse) -> str:
    figures = []
    for what, values_T3, unit in (
        ("translation", course.translation_T3, "mm"),
        ("rotation", course.rotation_T3, "degrees"),
    ):
        plot = _plot(f"run {course.run}, {what}", values_T3, f"{what}, {unit}")
        for (axis, colour), values_T in zip(_AXES, values_T3.T, strict=True):
            _line(plot, values_T, colour, axis)
        figures.append(plot.svg())
    plot = _plot(f"run {course.run}, framewise displacement", course.fd_mm_T[:, None], "FD, mm", low=0.0)
    at = [float(t) for t in np.flatnonzero(course.censored_T)]
    plot.points([(t, 0.0, 0.0, 0.0) for t in at], ORANGE, "left out" if at else "")
    _line(plot, course.fd_mm_T, BLUE, "")
    figures.append(plot.svg())
    return "".join(f"<figure>{figure}<figcaption>run {course.run}</figcaption></figure>" for figure in figures)


def _plot(title: str, values: NDArray[np.float64], y_title: str, low: float | None = None) -> Plot:
    finite = values[np.isfinite(values)]
    span = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.1 * (span[1] - span[0]) or 0.1
    bounds = (span[0] - margin if low is None else low, span[1] + margin)
    return Plot(
        title, (0.0, float(max(1, len(values) - 1))), bounds, x_title="volume", y_title=y_title, percent_y=False
    )


def _line(plot: Plot, values_T: NDArray[np.float64], colour: str, name: str) -> None:
    """Broken where a value is unknown."""
    known = np.isfinite(values_T)
    pieces = np.split(np.arange(len(values_T)), np.flatnonzero(np.diff(known.astype(int))) + 1)
    for piece in pieces:
        if len(piece) and known[piece[0]]:
            plot.line([(float(t), float(values_T[t])) for t in piece], colour, name)
            name = ""


def _registrations(runs: Sequence[RunCourse]) -> str:
    shown = [course for course in runs if course.figure is not None]
    if not shown:
        return ""
    figures = "".join(
        f"<figure><img class='wide' alt='run {course.run} on the reference' src='{_data_uri(course.figure)}'>"
        f"<figcaption>run {course.run} on the subject's reference</figcaption></figure>"
        for course in shown
        if course.figure is not None
    )
    return f"<h2>Registration</h2><div class='plots'>{figures}</div>"


def _latency(visit: Visit) -> str:
    if not visit.latencies_ms:
        return "<p class='dim'>no results</p>"
    rows, plot = [], None
    for stage in STAGES:
        if (values := visit.latencies_ms.get(stage)) is not None:
            p50, p95, worst = np.percentile(values, [50, 95, 100])
            rows.append((stage, str(len(values)), f"{p50:.0f} ms", f"{p95:.0f} ms", f"{worst:.0f} ms"))
    everything = np.concatenate(list(visit.latencies_ms.values()))
    counts, edges = np.histogram(everything, bins=24)
    plot = Plot(
        "latency", (float(edges[0]), float(edges[-1])), (0.0, float(max(1, counts.max()))),
        x_title="from the beta to its result, ms", y_title="results", percent_y=False,
    )  # fmt: skip
    plot.bars([float(edge) for edge in edges], [float(count) for count in counts], GREY)
    heads = ("stage", "n", "median", "95 %", "worst")
    return f"{table(heads, rows)}<div class='plots'><figure>{plot.svg()}</figure></div>"


def _pictures(visit: Visit) -> str:
    """Evenly spaced through the session, not chosen by score."""
    drawn = list(_drawn(visit))
    if not drawn:
        return ""
    chosen = [drawn[i] for i in np.linspace(0, len(drawn) - 1, min(N_SHOWN, len(drawn))).round().astype(int)]
    figures = []
    for trial, stage, path, result in chosen:
        right = "" if trial.truth is None else ("✓ " if result["candidates"][0]["id"] == trial.truth else "✕ ")
        pair = _tile(trial.image, "shown") + _tile(path, "reconstruction")
        first = result["candidates"][0].get("label") or result["candidates"][0]["id"]
        text = f"run {trial.run}, trial {trial.trial}, {stage} · closest: {right}{first} ({result['confidence']:.2f})"
        figures.append(f"<figure><div>{pair}</div><figcaption>{escape(text)}</figcaption></figure>")
    many = f"{len(chosen)} of {len(drawn)} trials, evenly spaced through the session; the last stage of each"
    return f"<h2>Reconstructions</h2><p class='dim'>{many}</p><div class='pairs'>{''.join(figures)}</div>"


def _drawn(visit: Visit) -> Iterator[tuple[ShownTrial, str, Path, Any]]:
    for trial in visit.decoded.trials:
        for stage in reversed(STAGES):
            path = visit.decoded.reconstructions.get((*trial.key, stage))
            result = visit.decoded.results.get((*trial.key, stage))
            if path is not None and result is not None:
                yield trial, stage, path, result
                break


def _tile(path: Path | None, name: str) -> str:
    if path is None:
        return ""
    return f"<span><img alt='{escape(name)}' src='{_data_uri(path)}'><small>{escape(name)}</small></span>"


def _data_uri(path: Path | None) -> str:
    assert path is not None
    content = path.read_bytes()
    return f"data:image/{image_kind(content) or 'png'};base64,{b64encode(content).decode()}"


def _flat(provenance: Any, before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in sorted(provenance.items()):
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name} ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if text:
                yield f"{before}{name}", text


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 2 else words)
