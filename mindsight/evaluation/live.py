"""How often results were right as they came, in the pool that they were chosen from.

Knows nothing of decoders or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindsight.accuracy import Accuracy
from mindsight.archive.read import DecodedSession, ShownTrial
from mindsight.evaluation.controls import exchanged
from mindsight.evaluation.records import LiveFigure
from mindsight.stages import STAGES

Decoded = Sequence[tuple[ShownTrial, Mapping[str, Any]]]


def live_figures(session: DecodedSession, rng: np.random.Generator) -> list[LiveFigure]:
    """For each stage the first candidate, the first five, the choices between look-alike pairs; and one control.

    The control compares the results of the last stage with what other trials showed.
    """
    figures = []
    known = [trial for trial in session.trials if trial.truth is not None]
    for stage in STAGES:
        decoded = [
            (trial, session.results[(*trial.key, stage)]) for trial in known if (*trial.key, stage) in session.results
        ]
        if not decoded:
            continue
        confidence = float(np.mean([result["confidence"] for _, result in decoded]))
        figures.append(LiveFigure(f"{stage}: first candidate", _among_first(decoded, 1), confidence))
        if min(result["pool_size"] for _, result in decoded) > 5:
            figures.append(LiveFigure(f"{stage}: first five candidates", _among_first(decoded, 5)))
        pairs = _pairs(decoded)
        if pairs.n:
            figures.append(LiveFigure(f"{stage}: look-alike pairs", pairs))
        control = _with_other_trials(decoded, rng)
    if figures and control.n:
        figures.append(LiveFigure(f"{stage}: compared with other trials' images", control, control=True))
    return figures


def live_leaks(live: Sequence[LiveFigure]) -> list[str]:
    """Controls above chance, by Wilson's interval."""
    return [
        f"Control {figure.title} is above chance: {figure.accuracy}."
        for figure in live
        if figure.control and figure.accuracy.interval[0] > figure.accuracy.chance
    ]


def _among_first(decoded: Decoded, k: int) -> Accuracy:
    hits = [trial.truth in [one["id"] for one in result["candidates"][:k]] for trial, result in decoded]
    return Accuracy.of(hits, float(np.mean([k / result["pool_size"] for _, result in decoded])))


def _pairs(decoded: Decoded) -> Accuracy:
    """Each trial once: the first pair that holds what it showed. A tie is no hit."""
    hits = []
    for trial, result in decoded:
        pair = next((one for one in result.get("pairs", ()) if trial.truth in (one["first"], one["second"])), None)
        if pair is not None:
            hits.append(pair["chosen"] == trial.truth and pair["margin"] > 0)
    return Accuracy.of(hits, 0.5)


def _with_other_trials(decoded: Decoded, rng: np.random.Generator) -> Accuracy:
    if len(decoded) < 2:
        return Accuracy(0, 0, 0.0)
    order = exchanged(np.zeros(len(decoded)), rng)
    others = [
        (other, result)
        for (trial, result), (other, _) in zip(decoded, [decoded[i] for i in order], strict=True)
        if other.truth != trial.truth
    ]
    return _among_first(others, 1) if others else Accuracy(0, 0, 0.0)
