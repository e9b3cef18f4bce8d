"""A bundle with a linear decoder, fitted to a subject's own runs.

The runs go through ingest twice: once to choose the GLM's options on the voxels' time series, once with these options
for the betas that the decoder is fitted to. Letters: V voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.evaluation.calibration_record import CalibrationRecord
from mindsight.files.digest import sha256_of
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.retrieval import CandidatePool, fit_stages
from mindsight.scanner import RecordedRun
from mindsight.scanner.echoes import EchoChoice
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.completed import completed
from training.calibration.fits import LeftOut, Reconstructor
from training.calibration.linear_choice import HeldOut, RunTrials, choose_linear, fit_linear, scores_of
from training.calibration.linear_curve import learning_curve, shuffled_control
from training.calibration.live import LeftOutScores, by_stage, score_left_out
from training.calibration.model_choice import choose_model, in_space
from training.calibration.record import Calibrated, record_of
from training.calibration.runs import (
    LabelledRun,
    Labels,
    Report,
    final_betas,
    ingest_runs,
    middle_volume,
    open_labelled_runs,
    part,
    run_trials,
    silent,
    statistics_of,
)

CHOSEN, TWICE, SCORED, DRAWN = 0.4, 0.65, 0.75, 0.85  # shares of the time that are over, about
BY_RUN = IngestOptions(normalise="run")


def calibrate_linear(
    folders: Sequence[Path],
    labels: Labels,
    subject: str,
    created: datetime,
    options: IngestOptions = BY_RUN,
    pool: CandidatePool | None = None,
    echo: EchoChoice = None,
    reconstructor: Reconstructor | None = None,
    in_pool_prior: float | None = None,
    report: Report = silent,
) -> Calibrated:
    """A linear bundle, not saved yet, that decodes into the embeddings of a pool, or classifies labels; and its record.

    folders : two or more runs, see ``open_run``
    labels : column of the events that names what was shown; events without a name are modelled, and the decoder is not
        fitted to them
    options : of calibration and of the sessions after it; ``choose`` replaces those of the GLM if the runs show that
        others are better, see ``glm_choice``
    pool : the candidates that the labels name, see ``CandidatePool.named``; None: the labels are the candidates
    echo : which of several echoes, or all combined, see ``read_series``; sessions must take the same
    reconstructor : to calibrate the fit of reconstructions with; each run's are made by the decoder of the other runs
    in_pool_prior : if the ranking is to guide reconstructions, see ``Sampling``
    report : receives what is being done, and the share of the whole that is done

    Raises BadRequest (``calibration.runs``, ``calibration.labels``), ModelMismatch (``pool.unknown_candidate``), and
    what reading the runs raises.
    """
    runs, names = open_labelled_runs(folders, labels, echo)
    return calibrate_runs(runs, names, labels, subject, created, options, pool, reconstructor, in_pool_prior, report)


def calibrate_runs(
    runs: Sequence[LabelledRun],
    names: tuple[str, ...],
    labels: Labels,
    subject: str,
    created: datetime,
    options: IngestOptions = BY_RUN,
    pool: CandidatePool | None = None,
    reconstructor: Reconstructor | None = None,
    in_pool_prior: float | None = None,
    report: Report = silent,
) -> Calibrated:
    """The same of runs that are open already; ``names`` are all labels in them, sorted."""
    classes = CandidatePool(names, np.eye(len(names), dtype=np.float32), names)
    pool = pool or classes
    index_of = {name: pool.index_of(pool.named(name)) for name in names}
    # Options are chosen among the candidates that were shown: a pool of ten thousand would make each of them slow.
    shown = replace(classes, embeddings=pool.embeddings[[index_of[name] for name in names]])
    space = space_of(runs[0].recorded)
    chosen = choose_model(runs, space, options, shown, part(report, 0.0, CHOSEN))
    space = in_space(chosen, space)
    ingested, baseline = ingest_runs(runs, space, chosen.options, part(report, CHOSEN, TWICE))
    report("fitting the decoder, each run left out once", TWICE)
    finals = [final_betas(run, one) for run, one in zip(runs, ingested, strict=True)]
    trials = [run_trials(run, betas, index_of) for run, betas in zip(runs, finals, strict=True)]
    held_out = choose_linear(trials, pool, np.random.default_rng(0))
    decoders = [fit_linear(trials[:i] + trials[i + 1 :], pool, held_out.method) for i in range(len(runs))]
    scorers = [
        LeftOutScores(index_of, partial(scores_of, decoder, pool=pool, score=held_out.score, centred=held_out.centred))
        for decoder in decoders
    ]
    scored = score_left_out(runs, ingested, scorers)
    bundle = Bundle(
        subject=subject,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        options=chosen.options,
        space=space,
        statistics=statistics_of(finals),
        calibration=fit_stages(held_out.calibration, by_stage(scored), held_out.null_MN),
        pool=pool,
        decoder=fit_linear(trials, pool, held_out.method),
        baseline=baseline,
        labels=labels,
        accuracy=held_out.accuracy,
    )
    held = "each run left out once; options and the way of fitting are chosen on the same runs"
    digests = [digest_of(decoder) for decoder in decoders]
    record = record_of(bundle, runs, ingested, trials, scored, held_out.null_MN, held_out=held, decoders=digests)
    report("learning curve and shuffled labels", SCORED)
    record = _with_curve(record, trials, pool, held_out)
    report("reconstructions of left-out trials", DRAWN)
    left_out = [LeftOut([run.recorded.run], decoder) for run, decoder in zip(runs, decoders, strict=True)]
    return completed(Calibrated(bundle, record), runs, left_out, index_of, reconstructor, in_pool_prior)


def _with_curve(
    record: CalibrationRecord, trials: Sequence[RunTrials], pool: CandidatePool, way: HeldOut
) -> CalibrationRecord:
    """With the learning curve, and the control of shuffled labels."""
    curve = learning_curve(trials, [run.minutes for run in record.runs], pool, way)
    return replace(record, curve=curve, controls=(shuffled_control(trials, pool, way), *record.controls))


def digest_of(decoder: LinearDecoder) -> str:
    """sha256 of its weights."""
    return sha256_of(np.ascontiguousarray(decoder.weights_VD).tobytes() + decoder.intercept_D.tobytes())


def space_of(recorded: RecordedRun) -> SubjectSpace:
    """The middle volume of the run, and the head in it."""
    reference = middle_volume(recorded)
    return SubjectSpace(reference, brain_mask(reference.data))
