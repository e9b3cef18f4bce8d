"""Published figures for comparison, and the test images that each was measured on.

From Scotti et al. 2024, MindEye2 (ICML, arXiv:2403.11207), tables 1, 7 and 8. Knows nothing of our own figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.evaluation.image_sets import ImageSet
from mindsight.evaluation.metrics.metric import METRICS


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """Figures as printed (percent where the table prints percent), by metric key.

    image_set : the set's name, or None if the source does not state it
    percent_decimals : number of decimals of a percentage in its table
    """

    title: str
    image_set: str | None
    source: str
    figures: dict[str, float]
    percent_decimals: int


_T1 = "Scotti et al. 2024, table 1, mean of subjects 1, 2, 5, 7"
_T7 = "Scotti et al. 2024, table 7"
_T8 = "Scotti et al. 2024, table 8"


def _row(
    title: str, image_set: str | None, source: str, *figures: float | None, captions: dict[str, float] | None = None
) -> PublishedRow:
    keys = [metric.key for metric in METRICS]  # the order of the table: ..., SwAV, Image, Brain
    return PublishedRow(
        title,
        image_set,
        source,
        {key: figure for key, figure in zip(keys, figures, strict=True) if figure is not None} | (captions or {}),
        1 if source == _T1 else 2,
    )


# on the images' COCO captions
_40H_S1 = {"caption_rouge1": 0.353, "caption_rougeL": 0.326}
_1H_S1 = {"caption_rouge1": 0.299, "caption_rougeL": 0.278}

PUBLISHED = (
    _row("MindEye2 40 h", "nsd1000", _T1, 0.322, 0.431, 96.1, 98.6, 95.4, 93.0, 0.619, 0.344, 98.8, 98.3),
    _row("MindEye2 unrefined", "nsd1000", _T1, 0.278, 0.328, 95.2, 99.0, 96.4, 94.5, 0.622, 0.343, None, None),
    _row("MindEye2 low-level only", "nsd1000", _T1, 0.399, 0.539, 70.5, 65.1, 52.9, 57.2, 0.984, 0.673, None, None),
    _row("MindEye2 1 h", "nsd1000", _T1, 0.195, 0.419, 84.2, 90.6, 81.2, 79.2, 0.810, 0.468, 79.0, 57.4),
    # Other methods, from MindEye2's table 1, which does not state their test images.
    _row("MindEye1", None, _T1, 0.319, 0.360, 92.8, 96.9, 94.6, 93.3, 0.648, 0.377, 90.0, 84.1),
    _row("Brain-Diffuser", None, _T1, 0.273, 0.365, 94.4, 96.6, 91.3, 90.9, 0.728, 0.421, 18.8, 26.3),
    _row("Takagi", None, _T1, 0.246, 0.410, 78.9, 85.6, 83.8, 82.1, 0.811, 0.504, None, None),
    _row("MindEye2 40 h, s1", "nsd1000", _T7, 0.374, 0.439, 97.82, 99.10, 96.15, 93.56, 0.609, 0.338, 99.96, 99.87,
         captions=_40H_S1),
    _row("MindEye2 40 h, s2", "nsd1000", _T7, 0.328, 0.430, 97.01, 98.83, 94.90, 91.66, 0.631, 0.347, 99.88, 99.84),
    _row("MindEye2 40 h, s5", "nsd1000", _T7, 0.301, 0.432, 95.32, 98.54, 96.52, 94.32, 0.600, 0.335, 98.39, 96.94),
    _row("MindEye2 40 h, s7", "nsd1000", _T7, 0.283, 0.423, 94.25, 97.97, 94.09, 92.36, 0.638, 0.357, 96.89, 96.53),
    _row("MindEye2 1 h, s1", "nsd1000", _T8, 0.235, 0.428, 88.02, 93.33, 83.56, 80.75, 0.798, 0.459, 93.96, 77.63,
         captions=_1H_S1),
    _row("MindEye2 1 h, s2", "nsd1000", _T8, 0.200, 0.433, 85.00, 92.13, 81.86, 79.39, 0.807, 0.467, 90.53, 67.18),
    _row("MindEye2 1 h, s5", "nsd1000", _T8, 0.175, 0.405, 83.11, 91.00, 84.33, 82.53, 0.781, 0.444, 66.94, 46.96),
    _row("MindEye2 1 h, s7", "nsd1000", _T8, 0.170, 0.408, 80.70, 85.90, 74.90, 74.29, 0.854, 0.504, 64.44, 37.77),
)  # fmt: skip


def published_rows(compared: ImageSet) -> list[PublishedRow]:
    """The rows measured on the same images; no other is comparable."""
    return [row for row in PUBLISHED if row.image_set == compared.name]
