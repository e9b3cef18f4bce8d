"""An evaluation as one self-contained HTML page: table, controls, notes and images, in the dashboard's colours.

Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mindsight.evaluation.metrics.metric import CLIP, PIXCORR, SSIM
from mindsight.evaluation.records import Evaluation, Outputs, Truth
from mindsight.evaluation.report.parts import accuracy_table, listed, page_start, small_image
from mindsight.evaluation.report.session_section import session_section
from mindsight.evaluation.report.table import HEADINGS, LIVE_HEADING, Line, columns, lines
from mindsight.evaluation.session_summary import SessionSummary

_SHOWN = (PIXCORR, SSIM, CLIP)


def html_page(
    evaluation: Evaluation,
    truth: Truth,
    outputs: Outputs,
    controls: Sequence[Outputs] = (),
    *,
    captions: Sequence[str],
    made_from: dict[str, str],
    n_shown: int = 60,
    session: SessionSummary | None = None,
) -> str:
    """The page. Its images are evenly spaced through the test set, not chosen by score.

    captions : a name for each image
    made_from : name -> digest of what was measured
    session : if the outputs are a session's
    """
    title = escape(f"{evaluation.rows[0].title}: {evaluation.n_images} images")
    parts = [
        page_start(title),
        f"<h1>{title}</h1><p class='dim'>{escape(evaluation.image_set.title)}</p>",
        *(f"<p class='warning'>⚠ {escape(leak)}</p>" for leak in evaluation.leaks),
        _live(evaluation),
        "<h2>By the published metrics</h2>" if evaluation.live else "",
        _table(evaluation),
        "<p class='dim'>Below each figure: its 95 % interval over images (bootstrap, near-duplicates drawn together). "
        "↑ higher is better, ↓ lower is better.</p>",
        listed("Notes", evaluation.notes),
        listed("Not measured", [f"{what}: {why}" for what, why in evaluation.not_measured.items()]),
        "" if session is None else session_section(session),
        _images(evaluation, truth, outputs, controls, captions, n_shown),
        listed("Made from", [f"{name}: sha256 {digest}" for name, digest in made_from.items()]),
        f"<p class='dim'>Seed {evaluation.seed}.</p></html>",
    ]
    return "\n".join(part for part in parts if part)


def _table(evaluation: Evaluation) -> str:
    heads = "".join(
        f"<th>{escape(metric.title)} {'↑' if metric.higher_is_better else '↓'}</th>" for metric in columns(evaluation)
    )
    rows = []
    kind = ""
    for line in lines(evaluation):
        if line.kind != kind:
            kind = line.kind
            rows.append(f"<tr class='head'><td colspan='{len(line.cells) + 1}'>{escape(HEADINGS[kind])}</td></tr>")
        rows.append(_line(line))
    return f"<div class='scroll'><table><tr><td></td>{heads}</tr>{''.join(rows)}</table></div>"


def _live(evaluation: Evaluation) -> str:
    if not evaluation.live:
        return ""
    title = LIVE_HEADING[0].upper() + LIVE_HEADING[1:]
    return f"<h2>{title}</h2>{accuracy_table(evaluation.live)}"


def _line(line: Line) -> str:
    cells = "".join(
        f"<td>{escape(cell)}{f'<small>{escape(span)}</small>' if span else ''}</td>"
        for cell, span in zip(line.cells, line.intervals, strict=True)
    )
    source = f"<small>published: {escape(line.source)}</small>" if line.source else ""
    return f"<tr class='{line.kind}'><td>{escape(line.title)}{source}</td>{cells}</tr>"


def _images(
    evaluation: Evaluation,
    truth: Truth,
    outputs: Outputs,
    controls: Sequence[Outputs],
    captions: Sequence[str],
    n_shown: int,
) -> str:
    if outputs.recons_KSHWC is None:
        return ""
    n = min(n_shown, evaluation.n_images)
    indices = np.linspace(0, evaluation.n_images - 1, n).round().astype(int)
    scores = evaluation.rows[0].scores
    shown = [("shown", truth.images_KHWC)]
    shown += [
        (given.name, given.recons_KSHWC[:, 0]) for given in (outputs, *controls) if given.recons_KSHWC is not None
    ]
    figures = []
    for i in indices:
        pairs = "".join(
            f"<span><img alt='{escape(name)}' src='{small_image(images[i])}'><small>{escape(name)}</small></span>"
            for name, images in shown
        )
        own = " · ".join(
            f"{metric.title} {scores[metric.key].values_K[i]:.3f}" for metric in _SHOWN if metric.key in scores
        )
        caption = f"{captions[i]} · {own}"
        figures.append(f"<figure><div>{pairs}</div><figcaption>{escape(caption)}</figcaption></figure>")
    many = f"{n} of {evaluation.n_images}, evenly spaced through the test set; the first sample of each"
    return f"<h2>Images</h2><p class='dim'>{many}</p><div class='pairs'>{''.join(figures)}</div>"
