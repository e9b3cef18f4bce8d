"""What a session's archive holds to be measured: what was shown, what was answered, and how often that was right.

Knows nothing of decoders or of the service: BIDS tables, JSON lines and pictures. Letters: K pictures, S showings of
each, H pixels of a side.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindsight.accuracy import Accuracy
from mindsight.errors import BadRequest
from mindsight.evaluation.controls import exchanged
from mindsight.stages import STAGES, Stage


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """A trial that was to be decoded, and what it showed.

    candidate : id in the pool, None where nobody said
    picture : file of the picture, None where it was not recorded
    """

    run: int
    trial: int
    candidate: str | None
    label: str | None
    picture: Path | None

    @property
    def key(self) -> tuple[int, int]:
        return self.run, self.trial

    @property
    def truth(self) -> str | None:
        """Id of the right candidate; of a pool of classes, the label."""
        return self.candidate or self.label


@dataclass(frozen=True, slots=True)
class LiveFigure:
    """How often answers were right as they came, in the pool that they were chosen from.

    confidence : what they said of themselves on average, where they did
    control : what should be at chance
    """

    title: str
    accuracy: Accuracy
    confidence: float | None = None
    control: bool = False


@dataclass(frozen=True, eq=False)
class SessionAnswers:
    """One archived session.

    results : (run, trial, stage) -> the answer, as ``protocol.messages.Result`` says it
    drawn : (run, trial, stage) -> file of the reconstruction
    """

    name: str
    trials: Sequence[ShownTrial]
    results: Mapping[tuple[int, int, Stage], Mapping[str, Any]]
    drawn: Mapping[tuple[int, int, Stage], Path]


def is_archive(folder: Path) -> bool:
    """Whether the folder is what a session leaves."""
    return (folder / "rawdata").is_dir() and (folder / "derivatives" / "mindsight").is_dir()


def read_session(archive: Path) -> SessionAnswers:
    """Read an archive; pictures stay in their files. Raises BadRequest (``archive.answers``) without answers."""
    derived = archive / "derivatives" / "mindsight"
    files = sorted(derived.glob("sub-*/ses-*/func/*_desc-decoding_results.jsonl"))
    if len(files) != 1:
        raise BadRequest(
            f"expected the archive of one session with answers in {archive.name}, got {len(files)} tables of answers",
            code="archive.answers",
        )
    results = {}
    for line in files[0].read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        results[answer["run"], answer["trial"], answer["stage"]] = answer["result"]
    drawn = {}
    for path in files[0].parent.parent.glob("images/*_reconstruction.*"):
        found = re.search(r"_run-(\d+)_trial-(\d+)_desc-(fast|revised|final)_", path.name)
        if found:
            drawn[int(found[1]), int(found[2]), _stage(found[3])] = path
    return SessionAnswers(archive.name, list(_trials(archive / "rawdata")), results, drawn)


def live_figures(session: SessionAnswers, rng: np.random.Generator) -> list[LiveFigure]:
    """Per stage the first and the first five candidates, the choices between look-alike pairs, and a control.

    The control holds the last stage's answers against what other trials showed.
    """
    figures = []
    known = [trial for trial in session.trials if trial.truth is not None]
    for stage in STAGES:
        answered = [
            (trial, session.results[(*trial.key, stage)]) for trial in known if (*trial.key, stage) in session.results
        ]
        if not answered:
            continue
        confidence = float(np.mean([result["confidence"] for _, result in answered]))
        figures.append(LiveFigure(f"{stage}: first candidate", _among(answered, 1), confidence))
        if min(result["pool_size"] for _, result in answered) > 5:
            figures.append(LiveFigure(f"{stage}: first five candidates", _among(answered, 5)))
        pairs = _pairs(answered)
        if pairs.n:
            figures.append(LiveFigure(f"{stage}: look-alike pairs", pairs))
        control = _held_against_others(answered, rng)
    if figures and control.n:
        figures.append(LiveFigure(f"{stage}: held against other trials' pictures", control, control=True))
    return figures


def pictures_of(session: SessionAnswers, stage: Stage) -> list[list[ShownTrial]]:
    """K pictures with their showings at which one was drawn, as many of each, in the order of their first showing.

    Where some were shown more often, the first showings count.
    """
    shown: dict[Path, list[ShownTrial]] = {}
    for trial in session.trials:
        if trial.picture is not None and (*trial.key, stage) in session.drawn:
            shown.setdefault(trial.picture, []).append(trial)
    fewest = min(map(len, shown.values()), default=0)
    return [trials[:fewest] for trials in shown.values()]


def _trials(rawdata: Path) -> Iterator[ShownTrial]:
    for path in sorted(rawdata.glob("sub-*/ses-*/func/*_events.tsv"), key=_run):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                held = {name: None if value in ("n/a", "") else value for name, value in row.items()}
                trial, stim_file = held.get("trial"), held.get("stim_file")
                if trial is None:
                    continue
                picture = None if stim_file is None else rawdata / "stimuli" / stim_file
                yield ShownTrial(
                    _run(path),
                    int(trial),
                    held.get("candidate"),
                    held.get("trial_type"),
                    picture if picture is not None and picture.is_file() else None,
                )


def _run(events: Path) -> int:
    found = re.search(r"_run-(\d+)_", events.name)
    return int(found[1]) if found else 1


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage == name)


def _among(answered: Sequence[tuple[ShownTrial, Mapping[str, Any]]], k: int) -> Accuracy:
    hits = [trial.truth in [one["id"] for one in result["candidates"][:k]] for trial, result in answered]
    return Accuracy.of(hits, float(np.mean([k / result["pool_size"] for _, result in answered])))


def _pairs(answered: Sequence[tuple[ShownTrial, Mapping[str, Any]]]) -> Accuracy:
    """Each trial once: the first pair with what it showed. A tie is no hit."""
    hits = []
    for trial, result in answered:
        pair = next((one for one in result.get("pairs", ()) if trial.truth in (one["first"], one["second"])), None)
        if pair is not None:
            hits.append(pair["chosen"] == trial.truth and pair["margin"] > 0)
    return Accuracy.of(hits, 0.5)


def _held_against_others(
    answered: Sequence[tuple[ShownTrial, Mapping[str, Any]]], rng: np.random.Generator
) -> Accuracy:
    if len(answered) < 2:
        return Accuracy(0, 0, 0.0)
    order = exchanged(np.zeros(len(answered)), rng)
    others = [
        (other, result)
        for (trial, result), (other, _) in zip(answered, [answered[place] for place in order], strict=True)
        if other.truth != trial.truth
    ]
    return _among(others, 1) if others else Accuracy(0, 0, 0.0)
