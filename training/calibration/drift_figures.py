"""``python -m training.calibration.drift_figures``: what drift since the calibration costs, and what mends it.

The demo's participant comes again. Responses have drifted: each voxel's mean by a random part of its spread over
images, its gain by a random factor, and all means together as if some image were in every other. Every beta is decoded
with the statistics of each policy, see ``Normaliser``: the bundle's as they were calibrated ("bundle"), these shrunk
together with the session's own ("running"), those of the run ("run").

Letters: N images, V voxels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mindsight import assets
from mindsight.accuracy import Accuracy
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.evaluation.drift import RunDrift, drift_of
from mindsight.glm.normalise import Policy
from mindsight.ingest import IngestSession
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.session import SimulatedSession
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.runs import final_betas, ingest_run
from training.datasets.simulated import simulated_runs

FIRST_VISIT = 200  # the seeds of visits; the bundle was made with others
POLICIES: tuple[Policy, ...] = ("bundle", "running", "run")
assert set(POLICIES) < set(get_args(Policy))


@dataclass(frozen=True, slots=True)
class Drift:
    """Of a visit since the calibration.

    shift : standard deviation over voxels of the change of a voxel's mean response, in its standard deviations over
        images
    gain : standard deviation over voxels of the logarithm of the change of its gain
    image : how much of the response to one image, as it differs from the mean, is added to every response
    """

    shift: float
    gain: float
    image: float = 0.0

    def of(self, responses_NV: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """The responses after the drift."""
        mean_V, std_V = responses_NV.mean(axis=0), responses_NV.std(axis=0)
        gain_V = np.exp(self.gain * rng.standard_normal(len(mean_V)))
        shift_V = self.shift * std_V * rng.standard_normal(len(mean_V))
        shift_V += self.image * (responses_NV[rng.integers(len(responses_NV))] - mean_V)
        return np.asarray((responses_NV - mean_V) * gain_V + mean_V + shift_V)


DRIFTS = (Drift(0.0, 0.0), Drift(1.0, 0.2), Drift(0.0, 0.0, 0.5), Drift(1.0, 0.2, 1.0))


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all trials at one stage; ``measured`` is the drift as the session's report states it, of each run."""

    drift: Drift
    policy: Policy
    stage: Stage
    accuracy: Accuracy
    stated: float
    measured: tuple[RunDrift, ...] = ()

    def __str__(self) -> str:
        seen = f"{np.mean([run.drifted for run in self.measured]):.2f}"
        return (
            f"{self.drift.shift:5.2f} {self.drift.gain:5.2f} {self.drift.image:5.2f} {seen:>8}  {self.policy:8}"
            f" {self.stage:8} {self.stated:.2f}  {self.accuracy}"
        )


def drifted_visits(drift: Drift, seeds: Sequence[int], n_runs: int) -> Iterator[SimulatedSession]:
    """The participant's visits after this drift, another one each time."""
    encoder = DemoEncoder.load(assets.ENCODER)
    for seed in seeds:
        visit = demo_visit(encoder.encode, encoder.image_size, seed=seed, n_runs=n_runs)
        visit.responses_NV = drift.of(visit.responses_NV, np.random.default_rng([seed, 9]))
        yield visit


def figures(
    bundle: Bundle, drift: Drift, seeds: Sequence[int], n_runs: int, policies: Sequence[Policy] = POLICIES
) -> list[Figures]:
    """One for each policy and stage."""
    decoder = TrialDecoder(bundle, clock=time.perf_counter)
    hits: dict[tuple[Policy, Stage], list[bool]] = {}
    stated: dict[tuple[Policy, Stage], list[float]] = {}
    measured: list[RunDrift] = []
    for visit in drifted_visits(drift, seeds, n_runs):
        for policy in policies:
            options = replace(bundle.options, normalise=policy)
            session = IngestSession(
                options, bundle.space, bundle.statistics, baseline=bundle.baseline, clock=time.perf_counter
            )
            for run in simulated_runs(visit):
                ingested = ingest_run(session, run)
                for beta in ingested.betas:
                    found = decoder.retrieve(
                        beta.beta_V, beta.mean_V, beta.std_V, stage=beta.stage, n_run=beta.n_run, trial=beta.trial
                    )
                    shown = bundle.pool.ids[int(run.trials.labels[beta.trial])]
                    hits.setdefault((policy, beta.stage), []).append(found.candidates[0].id == shown)
                    stated.setdefault((policy, beta.stage), []).append(found.confidence)
                if policy == policies[0]:
                    finals_KV = np.stack([beta.beta_V for beta in final_betas(run, ingested)])
                    measured += drift_of({run.recorded.run: finals_KV}, bundle.statistics)
    return [
        Figures(
            drift,
            policy,
            stage,
            Accuracy.of(hits[policy, stage], 1.0 / len(bundle.pool)),
            float(np.mean(stated[policy, stage])),
            tuple(measured),
        )
        for stage in STAGES
        for policy in policies
        if (policy, stage) in hits
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.calibration.drift_figures", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=assets.BUNDLE)
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="of every visit")
    given = parser.parse_args(arguments)
    bundle = Bundle.load(given.bundle)
    print("shift  gain image measured  statistics        stated  right")
    for drift in DRIFTS:
        for one in figures(bundle, drift, range(FIRST_VISIT, FIRST_VISIT + given.visits), given.runs):
            print(one, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
