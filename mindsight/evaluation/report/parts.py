"""Parts of the pages: style, tables, lists, images. Knows nothing of what is on them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation.metrics.resize import as_unit_images
from mindsight.evaluation.records import LiveFigure

STYLE = """
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
tr.ours td{color:#5aa9e6}tr.published td{color:#d7dee8}
.warning{color:#e6a23c}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:12px}
figure{margin:0;padding:10px;background:#151a21;border:1px solid #232b36;border-radius:6px}
figure div{display:flex;gap:6px;flex-wrap:wrap}
figure span{display:block;width:128px}figure span small{display:block}
img{width:128px;height:128px;display:block;background:#232b36}
figcaption{font-variant-numeric:tabular-nums;color:#7d8998;font-size:12px;margin-top:6px}
.plots{display:flex;flex-wrap:wrap;gap:12px}
.plots figure{max-width:100%}
svg{display:block;max-width:100%;height:auto}
img.wide{width:auto;height:auto;max-width:100%;background:none}
.verdict{font-size:18px;margin:16px 0 4px}
.verdict.ready{color:#6fbf73}.verdict.needs_more{color:#e6a23c}.verdict.unusable{color:#e5686d}
td.text{text-align:left;white-space:normal;max-width:60ch}
"""

_SIDE = 128


def page_start(title: str) -> str:
    """Everything before the body's content."""
    return f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"


def accuracy_table(figures: Sequence[LiveFigure]) -> str:
    """Each with its interval, n, chance and mean confidence."""
    rows = "".join(
        f"<tr class='{'control' if figure.control else 'ours'}'><td>{escape(figure.title)}</td>"
        f"<td>{figure.accuracy.value:.1%}</td>"
        f"<td>{figure.accuracy.interval[0]:.1%} to {figure.accuracy.interval[1]:.1%}</td>"
        f"<td>{figure.accuracy.n}</td><td>{figure.accuracy.chance:.1%}</td>"
        f"<td>{'' if figure.confidence is None else f'{figure.confidence:.1%}'}</td></tr>"
        for figure in figures
    )
    heads = "<td></td><th>right</th><th>95 % interval</th><th>n</th><th>chance</th><th>mean confidence</th>"
    return f"<div class='scroll'><table><tr>{heads}</tr>{rows}</table></div>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as text; the first column is the rows' names."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><tr>{top}</tr>{body}</table></div>"


def listed(title: str, items: Sequence[str]) -> str:
    """A heading and a list; nothing of none."""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""


def small_image(image_HWC: NDArray[Any]) -> str:
    """A data URI of the image at 128 pixels."""
    from PIL import Image

    small = as_unit_images(image_HWC[None], _SIDE)[0]
    buffer = BytesIO()
    Image.fromarray((small * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def png_image(pixels_HW3: NDArray[np.uint8]) -> str:
    """A data URI of the image as it is."""
    from mindsight.files.images import png_bytes

    return f"data:image/png;base64,{b64encode(png_bytes(pixels_HW3)).decode()}"
