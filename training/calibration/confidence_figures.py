"""``python -m training.calibration.confidence_figures``: stated and observed accuracy by stage and trials of the run.

The demo's participant is scanned again, in visits that the bundle was not calibrated on. Every beta is decoded as the
session gives it, and once more with the statistics of the whole run's final betas, which only exist when it is over.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindsight import assets
from mindsight.accuracy import Accuracy
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.glm import Statistics
from mindsight.ingest import IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.simulator.demo import demo_visit
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.runs import final_betas, ingest_run, statistics_of
from training.datasets.simulated import simulated_runs

FIRST_VISIT = 100  # the seeds of visits; the bundle was made with others
PARTS = {"1 to 6": range(1, 7), "7 to 15": range(7, 16), "from 16": range(16, 1000)}


@dataclass(frozen=True, slots=True)
class Decoded:
    """One trial at one stage.

    trial : number in its run
    right, confidence : of the first candidate, live
    right_later : of the first candidate with the statistics of the whole run
    """

    stage: Stage
    trial: int
    right: bool
    confidence: float
    right_later: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the trials of one part of the runs, at one stage; ``later`` is the accuracy with statistics of whole runs."""

    stage: Stage
    part: str
    accuracy: Accuracy
    stated: float
    later: Accuracy

    @property
    def gap(self) -> float:
        """Stated minus observed accuracy."""
        return self.stated - self.accuracy.value

    def __str__(self) -> str:
        return f"{self.stage:8} {self.part:8} {self.stated:.2f} {self.gap:+.2f}  {self.accuracy} | {self.later}"


def decode_visits(bundle: Bundle, seeds: Sequence[int], n_runs: int) -> Iterator[Decoded]:
    """All trials of these visits at all stages."""
    encoder = DemoEncoder.load(assets.ENCODER)
    decoder = TrialDecoder(bundle, clock=time.perf_counter)
    for seed in seeds:
        visit = demo_visit(encoder.encode, encoder.image_size, seed=seed, n_runs=n_runs)
        session = IngestSession(
            bundle.options, bundle.space, bundle.statistics, baseline=bundle.baseline, clock=time.perf_counter
        )
        for run in simulated_runs(visit):
            ingested = ingest_run(session, run)
            whole = statistics_of([final_betas(run, ingested)])
            for beta in ingested.betas:
                shown = bundle.pool.ids[int(run.trials.labels[beta.trial])]
                yield _decoded(decoder, beta, shown, whole)


def _decoded(decoder: TrialDecoder, beta: TrialBeta, shown: str, whole: Statistics) -> Decoded:
    live = decoder.retrieve(beta.beta_V, beta.mean_V, beta.std_V, stage=beta.stage, n_run=beta.n_run, trial=beta.trial)
    later = decoder.retrieve(beta.beta_V, whole.mean_V, whole.std_V)
    right, right_later = (found.candidates[0].id == shown for found in (live, later))
    return Decoded(beta.stage, beta.trial, right, live.confidence, right_later)


def figures(decoded: Sequence[Decoded], chance: float) -> list[Figures]:
    """One for each stage and part that has trials."""
    found = []
    for stage in STAGES:
        for part, numbers in PARTS.items():
            rows = [one for one in decoded if one.stage == stage and one.trial in numbers]
            if rows:
                live, later = ([getattr(one, name) for one in rows] for name in ("right", "right_later"))
                stated = float(np.mean([one.confidence for one in rows]))
                found.append(Figures(stage, part, Accuracy.of(live, chance), stated, Accuracy.of(later, chance)))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.calibration.confidence_figures", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=assets.BUNDLE)
    parser.add_argument("--visits", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="of every visit")
    given = parser.parse_args(arguments)
    bundle = Bundle.load(given.bundle)
    decoded = list(decode_visits(bundle, range(FIRST_VISIT, FIRST_VISIT + given.visits), given.runs))
    print("stage    trials   stated gap   right live | right with statistics of the whole run")
    for one in figures(decoded, 1.0 / len(bundle.pool)):
        print(one)
    return 0


if __name__ == "__main__":
    sys.exit(main())
