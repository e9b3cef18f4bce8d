"""A real brain: calibrated on 1, 2, 4 and 6 runs, and tested on runs 7 to 9 as a session decodes them.

    python benchmarks/bench_haxby.py [--no-history]

Haxby et al. 2001, one slice of one subject, eight kinds of images, eight blocks of 22.5 s a run. Every volume goes
through ``IngestSession``; every beta is decoded when the session gives it, with the statistics that it has then, by the
bundle that ``calibrate_visit`` gives, and by that of ``calibrate_linear``, which also chooses how betas are estimated;
and by what ``calibrate_visit`` gives with betas estimated in that way.
The control is calibrated on labels shuffled within each run. Needs the recorded runs beside the repository.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import report

from mindsight.accuracy import Accuracy
from mindsight.decoding import TrialDecoder
from mindsight.errors import BadRequest
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.retrieval import CandidatePool
from mindsight.stages import STAGES
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.fits import live_betas
from training.calibration.linear_bundle import calibrate_linear
from training.calibration.runs import LabelledRun, middle_volume, open_labelled_runs
from training.calibration.visit import Visit, calibrate_visit
from training.calibration.visit_runs import ingest_visit

FOLDER = report.DATA / "haxby2001"
SIZES, TEST = (1, 2, 4, 6), (7, 8, 9)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    given = report.parser(__doc__).parse_args()
    began = report.machine()
    if not FOLDER.is_dir():
        sys.exit("expected the recorded runs beside the repository, none are there")
    folders = tuple(sorted(FOLDER.glob("run-*")))
    runs, names = open_labelled_runs(folders, "trial_type")
    test = [run for run in runs if run.recorded.run in TEST]
    found: list[dict[str, Any]] = []
    for n in SIZES:
        makers = {
            "from recorded runs": lambda n=n: from_recorded(n, folders),  # type: ignore[misc]
            "during the visit": lambda n=n: during_visit(runs[:n], names),  # type: ignore[misc]
            "during the visit, betas as chosen": lambda n=n: during_visit(  # type: ignore[misc]
                runs[:n], names, from_recorded(n, folders)
            ),
            "during the visit, labels shuffled": lambda n=n: during_visit(shuffled(runs[:n]), names),  # type: ignore[misc]
        }
        for name, make in makers.items():
            started = time.process_time()
            try:
                bundle = make()
            except BadRequest as error:
                print(f"{n} runs, {name}: refused, {error} [{error.code}]")
                found.append({"runs": n, "calibrated": name, "refused": error.code})
                continue
            spent_s = time.process_time() - started
            for stage, accuracy in decoded(bundle, test).items():
                print(f"{n} runs, {name}, {bundle.space.n_voxels} voxels, {stage}: {accuracy}", flush=True)
                found.append(
                    {
                        "runs": n,
                        "calibrated": name,
                        "stage": stage,
                        "hits": accuracy.hits,
                        "n": accuracy.n,
                        "chance": accuracy.chance,
                        "cpu_s": round(spent_s, 1),
                    }
                )
    report.finish("haxby", given, began, ("numpy",), tested_on=list(TEST), figures=found)


@cache
def from_recorded(n: int, folders: tuple[Path, ...]) -> Bundle:
    return calibrate_linear(folders[:n], "trial_type", "sub-1", CREATED).bundle


def during_visit(runs: Sequence[LabelledRun], names: tuple[str, ...], like: Bundle | None = None) -> Bundle:
    """The last bundle that the visit's calibration yields.

    like : whose betas are estimated in the same way, in the same space; None: by default options
    """
    reference = middle_volume(runs[0].recorded)
    space = SubjectSpace(reference, brain_mask(reference.data)) if like is None else like.space
    options = IngestOptions(normalise="run") if like is None else like.options
    labels = CandidatePool(names, np.eye(len(names), dtype=np.float32), names)
    visit = Visit(
        subject="sub-1",
        created=CREATED,
        options=options,
        space=space,
        stimuli=labels,
        hold_out="run",
        labels="trial_type",
    )
    with tempfile.TemporaryDirectory() as scratch:
        betas = ingest_visit(runs, space, options, Path(scratch))
        *_, last = calibrate_visit(visit, betas, Path(scratch), n_runs=len(runs))
    return last.bundle


def shuffled(runs: Sequence[LabelledRun]) -> list[LabelledRun]:
    rng = np.random.default_rng(0)
    return [
        replace(
            run,
            trials=replace(
                run.trials,
                labels=dict(
                    zip(run.trials.labels, rng.permutation(list(run.trials.labels.values())).tolist(), strict=True)
                ),
            ),
        )
        for run in runs
    ]


def decoded(bundle: Bundle, runs: Sequence[LabelledRun]) -> dict[str, Accuracy]:
    """Of each stage."""
    decoder = TrialDecoder(bundle, clock=time.perf_counter)
    hits: dict[str, list[bool]] = {stage: [] for stage in STAGES}
    for trial in live_betas(bundle, runs):
        beta = trial.beta
        result = decoder.retrieve(beta.beta_V, beta.mean_V, beta.std_V, stage=beta.stage, n_run=beta.n_run)
        hits[beta.stage].append(result.candidates[0].id == trial.label)
    return {stage: Accuracy.of(each, 1.0 / len(bundle.pool)) for stage, each in hits.items() if each}


if __name__ == "__main__":
    main()
