"""An evaluation as one self-contained HTML page: table, controls, notes and images, in the dashboard's colours.

Knows nothing of files.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation.metrics.metric import CLIP, PIXCORR, SSIM
from mindsight.evaluation.metrics.resize import as_unit_images
from mindsight.evaluation.records import Evaluation, Outputs, Truth
from mindsight.evaluation.report.table import HEADINGS, LIVE_HEADING, Line, columns, lines

_SIDE = 128
_SHOWN = (PIXCORR, SSIM, CLIP)

_STYLE = """
:root{color-scheme:dark}
body{margin:0;padding:24px 32px;background:#0e1116;color:#d7dee8;font:14px/1.5 system-ui,sans-serif}
h1{font-size:20px;margin:0}h2{font-size:15px;margin:28px 0 8px}
p,li{max-width:80ch}.dim,small{color:#7d8998}
.scroll{overflow-x:auto;background:#151a21;border:1px solid #232b36;border-radius:6px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:4px 12px;text-align:right;border-bottom:1px solid #232b36;vertical-align:top}
th{font-weight:600;white-space:normal;min-width:5em}th:first-child,td:first-child{text-align:left}
td small{display:block}
tr.head td{color:#7d8998;padding-top:12px}
tr.ours td{color:#5aa9e6}tr.published td,tr.other td{color:#d7dee8}tr.other td{color:#7d8998}
.warning{color:#e6a23c}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:12px}
figure{margin:0;padding:10px;background:#151a21;border:1px solid #232b36;border-radius:6px}
figure div{display:flex;gap:6px;flex-wrap:wrap}
figure span{display:block;width:128px}figure span small{display:block}
img{width:128px;height:128px;display:block;background:#232b36}
figcaption{font-variant-numeric:tabular-nums;color:#7d8998;font-size:12px;margin-top:6px}
"""


def html_page(
    evaluation: Evaluation,
    truth: Truth,
    outputs: Outputs,
    controls: Sequence[Outputs] = (),
    *,
    captions: Sequence[str],
    made_from: dict[str, str],
    n_shown: int = 60,
) -> str:
    """The page. Its images are evenly spaced through the test set, not chosen by score.

    captions : a name for each image
    made_from : name -> digest of what was measured
    """
    title = escape(f"{evaluation.rows[0].title}: {evaluation.n_images} images")
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1><p class='dim'>{escape(evaluation.image_set.title)}</p>",
        *(f"<p class='warning'>⚠ {escape(leak)}</p>" for leak in evaluation.leaks),
        _live(evaluation),
        "<h2>By the published metrics</h2>" if evaluation.live else "",
        _table(evaluation),
        "<p class='dim'>Below each figure: its 95 % interval over images (bootstrap, near-duplicates drawn together). "
        "↑ higher is better, ↓ lower is better. Rows marked as published are taken from the literature.</p>",
        _list("Notes", evaluation.notes),
        _list("Not measured", [f"{what}: {why}" for what, why in evaluation.not_measured.items()]),
        _images(evaluation, truth, outputs, controls, captions, n_shown),
        _list("Made from", [f"{name}: sha256 {digest}" for name, digest in made_from.items()]),
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
    return f"<div class='scroll'><table><tr><th></th>{heads}</tr>{''.join(rows)}</table></div>"


def _live(evaluation: Evaluation) -> str:
    if not evaluation.live:
        return ""
    rows = "".join(
        f"<tr class='{'control' if figure.control else 'ours'}'><td>{escape(figure.title)}</td>"
        f"<td>{figure.accuracy.value:.1%}</td>"
        f"<td>{figure.accuracy.interval[0]:.1%} to {figure.accuracy.interval[1]:.1%}</td>"
        f"<td>{figure.accuracy.n}</td><td>{figure.accuracy.chance:.1%}</td>"
        f"<td>{'' if figure.confidence is None else f'{figure.confidence:.1%}'}</td></tr>"
        for figure in evaluation.live
    )
    heads = "<th></th><th>right</th><th>95 % interval</th><th>n</th><th>chance</th><th>mean confidence</th>"
    title = LIVE_HEADING[0].upper() + LIVE_HEADING[1:]
    return f"<h2>{title}</h2><div class='scroll'><table><tr>{heads}</tr>{rows}</table></div>"


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
            f"<span><img alt='{escape(name)}' src='{_data_uri(images[i])}'><small>{escape(name)}</small></span>"
            for name, images in shown
        )
        own = " · ".join(
            f"{metric.title} {scores[metric.key].values_K[i]:.3f}" for metric in _SHOWN if metric.key in scores
        )
        caption = f"{captions[i]} · {own}"
        figures.append(f"<figure><div>{pairs}</div><figcaption>{escape(caption)}</figcaption></figure>")
    many = f"{n} of {evaluation.n_images}, evenly spaced through the test set; the first sample of each"
    return f"<h2>Images</h2><p class='dim'>{many}</p><div class='pairs'>{''.join(figures)}</div>"


def _data_uri(image_HWC: NDArray[Any]) -> str:
    from PIL import Image

    small = as_unit_images(image_HWC[None], _SIDE)[0]
    buffer = BytesIO()
    Image.fromarray((small * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def _list(title: str, items: Sequence[str]) -> str:
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""
