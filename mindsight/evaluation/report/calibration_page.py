"""A calibration's report as one self-contained HTML page: verdict, retrieval, curve, ceiling, map, images, quality.

Knows nothing of files. Nothing on the page comes from elsewhere: plots are SVG, images are data.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation.calibration_record import CalibrationRecord
from mindsight.evaluation.learning_curve import FittedCurve
from mindsight.evaluation.reliability import ReliabilityBin, calibration_error
from mindsight.evaluation.report.calibration_json import CalibrationFigures
from mindsight.evaluation.report.glass_brain import projections
from mindsight.evaluation.report.parts import accuracy_table, listed, page_start, png_image, small_image, table
from mindsight.evaluation.report.svg import BLUE, GREEN, GREY, ORANGE, Plot
from mindsight.evaluation.verdict import MIN_TRIALS, READY_SHARE

_RULE = (
    "Unusable: a control is above chance, no run could be registered, or more than half of the volumes are lost; or"
    f" two-way identification is not above 50 % in {MIN_TRIALS} trials or more. Ready: the accuracy that the learning"
    f" curve predicts for all trials is {READY_SHARE:.0%} or more of the way from chance to its plateau, with a"
    " probability of one half or more. Else it needs as many more trials as the curve takes to get there."
)


@dataclass(frozen=True, eq=False)
class BrainMap:
    """Where the voxels are. template : PNG of nilearn's glass brain, if there is one."""

    mask_XYZ: NDArray[np.bool_]
    affine: NDArray[np.float64]
    template: bytes | None = None


def calibration_page(
    record: CalibrationRecord,
    figures: CalibrationFigures,
    brain: BrainMap | None = None,
    images: Mapping[str, NDArray[np.uint8]] | None = None,
) -> str:
    """The page.

    images : id of a candidate -> (H, W, 3) what was shown, for those that were reconstructed
    """
    verdict, title = figures.verdict, escape(f"Calibration of {record.subject}")
    about = (
        f"{record.created} · {record.decoder} · {record.voxels} voxels · {record.minutes:.0f} min scanned ·"
        f" {record.pool_size} candidates. {record.held_out[:1].upper()}{record.held_out[1:]}."
    )
    parts = [
        page_start(title),
        f"<h1>{title}</h1><p class='dim'>{escape(about)}</p>",
        f"<p class='verdict {verdict.kind}'>{escape(verdict.headline)}</p>",
        f"<ul>{''.join(f'<li>{escape(reason)}</li>' for reason in verdict.reasons)}</ul>",
        f"<p class='dim'>{escape(_RULE)}</p>",
        "<h2>Retrieval, both ways, in trials that the decoder was not fitted to</h2>",
        accuracy_table(figures.retrieval),
        "<p class='dim'>Image retrieval ranks candidates by what was decoded; brain retrieval ranks trials by an image,"
        " among those that showed other ones. Intervals are Wilson's, over trials.</p>",
        f"<div class='plots'>{learning_plot(record)}{reliability_plots(figures.reliability)}</div>",
        _ceiling(record, brain),
        _reconstructions(record, images or {}),
        _quality(record),
        "</html>",
    ]
    return "\n".join(part for part in parts if part)


def learning_plot(record: CalibrationRecord) -> str:
    """Accuracy against trials, with the fitted curve and its interval; nothing of fewer than two points."""
    curve = sorted(record.curve, key=lambda point: point.trials)
    if len({point.trials for point in curve}) < 2:
        return ""
    most = max(point.trials for point in curve)
    low_x, high_x = max(1.0, curve[0].trials * 0.8), 4.0 * most
    fitted = FittedCurve.fit(curve)
    along = np.geomspace(low_x, high_x, 40)
    predicted = [(float(n), fitted.accuracy(float(n))) for n in along]
    plot = Plot(
        "Learning curve", (low_x, high_x), (0.0, 1.0), x_title="trials fitted to", y_title="right, final", log_x=True
    )
    plot.band([(n, at.low, at.high) for n, at in predicted], BLUE)
    plot.line([(n, at.value) for n, at in predicted], BLUE, "fitted, with 95 % interval")
    plot.line([(low_x, fitted.chance), (high_x, fitted.chance)], GREY, "chance", dashed=True)
    notes = [f"{point.trials} trials, {point.minutes:.0f} min: {point.accuracy}" for point in curve]
    plot.points(
        [(point.trials, point.accuracy.value, *point.accuracy.interval) for point in curve], ORANGE, "measured", notes
    )
    rows = [[f"{p.trials}", f"{p.minutes:.1f} min", str(p.accuracy)] for p in curve]
    return (
        f"<figure>{plot.svg()}<figcaption>Learning curve; beyond {most} trials it is predicted.</figcaption>"
        f"{table(['trials', 'scanned', 'right, final'], rows)}</figure>"
    )


def reliability_plots(stages: Mapping[str, Sequence[ReliabilityBin]]) -> str:
    """One diagram for each stage: stated against observed accuracy."""
    return "".join(_reliability(stage, bins) for stage, bins in stages.items() if bins)


def _reliability(stage: str, bins: Sequence[ReliabilityBin]) -> str:
    plot = Plot(
        f"Reliability of the confidence, {stage}",
        (0.0, 1.0),
        (0.0, 1.0),
        x_title="stated confidence",
        y_title="observed right",
        percent_x=True,
    )
    plot.line([(0.0, 0.0), (1.0, 1.0)], GREY, "honest", dashed=True)
    notes = [f"stated {one.stated:.2f}: {one.observed}" for one in bins]
    plot.points([(one.stated, one.observed.value, *one.observed.interval) for one in bins], GREEN, stage, notes)
    n = sum(one.observed.n for one in bins)
    text = f"Confidence, {stage}: {n} results; stated and observed differ by {calibration_error(bins):.2f} on average."
    return f"<figure>{plot.svg()}<figcaption>{escape(text)}</figcaption></figure>"


def _ceiling(record: CalibrationRecord, brain: BrainMap | None) -> str:
    ceiling, drawn = record.ceiling, _maps(record, brain)
    if ceiling is None:
        return f"<h2>Noise ceiling</h2><p>It was not measured, which needs images that are shown twice.</p>{drawn}"
    lines = [
        f"{ceiling.images} images were shown more than once, in {ceiling.trials} trials. The share of a single trial's"
        f" variance that is the image's: median over voxels {ceiling.signal_share_median:.1%}, tenth best"
        f" {ceiling.signal_share_p90:.1%}.",
        f"{ceiling.reliable_voxels} of {ceiling.voxels} voxels respond reliably to repeats (F test, p < 0.01; by chance"
        f" {0.01 * ceiling.voxels:.0f}).",
    ]
    if ceiling.identified is not None:
        lines.append(f"Repeats in other runs alone identify {ceiling.identified} of the trials, without any decoder.")
    return f"<h2>Noise ceiling</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>{drawn}"


def _maps(record: CalibrationRecord, brain: BrainMap | None) -> str:
    if record.reliability_V is None:
        return ""
    known_V = record.reliability_V[np.isfinite(record.reliability_V)]
    if not len(known_V):
        return ""
    low, high = float(min(known_V.min(), 0.0)), max(float(known_V.max()), 0.05)
    counts, edges = np.histogram(known_V, bins=40, range=(low, high))
    plot = Plot(
        "Voxels by signal share",
        (low, high),
        (0.0, float(counts.max())),
        x_title="share of variance that is the image's",
        y_title="voxels",
        percent_x=True,
        percent_y=False,
    )
    plot.bars([float(edge) for edge in edges], [float(count) for count in counts], BLUE)
    parts = [f"<figure>{plot.svg()}<figcaption>Reliability of voxels</figcaption></figure>"]
    if brain is not None:
        top = top_of(record)
        pixels = projections(np.asarray(record.reliability_V), brain.mask_XYZ, brain.affine, top)
        parts.append(
            f"<figure><img class='wide' alt='reliability of voxels, seen through the head' src='{png_image(pixels)}'>"
            "<figcaption>Through the head, in the subject's own space: from the right, from behind, from above (left is"
            f" left). Highest share along the line of sight, full colour at {top:.0%}.</figcaption></figure>"
        )
        if brain.template is not None:
            source = b64encode(brain.template).decode()
            parts.append(
                f"<figure><img class='wide' alt='glass brain' src='data:image/png;base64,{source}'><figcaption>The same"
                " in the template's outlines (nilearn): the head is moved to the template's centre and not warped, so"
                " places are approximate.</figcaption></figure>"
            )
    return f"<div class='plots'>{''.join(parts)}</div>"


def top_of(record: CalibrationRecord) -> float:
    """The share that maps show in full colour: the 99th percentile of the voxels, at least 5 %."""
    assert record.reliability_V is not None
    known_V = record.reliability_V[np.isfinite(record.reliability_V)]
    return max(float(np.quantile(known_V, 0.99)) if len(known_V) else 0.0, 0.05)


def _reconstructions(record: CalibrationRecord, images: Mapping[str, NDArray[np.uint8]]) -> str:
    if record.drawn_KHW3 is None:
        return ""
    figures = []
    for drawn, pixels in zip(record.drawn, record.drawn_KHW3, strict=True):
        shown = images.get(drawn.image)
        pair = [("shown", shown)] if shown is not None else []
        pair.append(("reconstruction", np.asarray(pixels)))
        spans = "".join(
            f"<span><img alt='{name}' src='{small_image(image)}'><small>{name}</small></span>" for name, image in pair
        )
        caption = escape(f"run {drawn.run}, trial {drawn.trial}, {drawn.stage} · {drawn.image}")
        figures.append(f"<figure><div>{spans}</div><figcaption>{caption}</figcaption></figure>")
    text = f"{len(figures)} trials, evenly spaced over the left-out ones; one reconstruction of each, none selected."
    return f"<h2>Reconstructions</h2><p class='dim'>{text}</p><div class='pairs'>{''.join(figures)}</div>"


def _quality(record: CalibrationRecord) -> str:
    heads = ["run", "volumes", "scanned", "trials", "censored", "missing", "trials flagged", "mean FD", "largest FD",
             "DVARS", "tSNR"]  # fmt: skip
    rows = [
        [
            f"{run.run}", f"{run.volumes}", f"{run.minutes:.1f} min", f"{run.trials}", f"{run.censored}",
            f"{run.missing}", f"{run.flagged}", _known(run.fd_mm_mean, "{:.2f} mm"), _known(run.fd_mm_max, "{:.2f} mm"),
            _known(run.dvars_percent_median, "{:.2f} %"), _known(run.tsnr, "{:.0f}"),
        ]
        for run in record.runs
    ]  # fmt: skip
    places = [
        [f"{place.run}", place.how if place.trusted else "refused", f"{place.displacement_mm:.2f} mm",
         f"{place.coverage:.1%}", _known(place.unexplained, "{:.1%}")]
        for place in record.registrations
    ]  # fmt: skip
    parts = []
    if rows:
        parts.append(f"<h2>Motion and quality</h2>{table(heads, rows)}")
    if places:
        parts.append("<h2>Registration to the reference, by each run's first volume</h2>")
        parts.append(table(["run", "by", "from the reference", "voxels covered", "unexplained"], places))
    alerts = [f"Run {run.run}: {text}" for run in record.runs for text in run.alerts]
    parts.append(listed("Alerts", alerts))
    return "".join(parts)


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
