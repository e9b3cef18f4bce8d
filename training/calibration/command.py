"""From recorded runs of one person to the bundle that decodes that person.

``python -m training.calibration RUN... --decoder linear --labels trial_type --out BUNDLE``

Every volume goes through the same ``IngestSession`` that a live session goes through: once to choose the GLM's options
on the voxels' time series, once more with these options for the betas that the decoder is fitted to.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoding import z_scored
from mindsight.errors import BadRequest, MindsightError
from mindsight.events import Note, unmeasured
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.feed import Trials, fill_gap, number_trials, start_run
from mindsight.ingest.options import Mode
from mindsight.ingest.outputs import TrialBeta, VolumeReport
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.quality.baseline import Baseline, baseline_of, measure_signal
from mindsight.retrieval import CandidatePool, ReducedIndex
from mindsight.scanner import RecordedRun, open_run
from mindsight.scanner.echoes import EchoChoice, parse_echo
from mindsight.stages import STAGES
from mindsight.subjects.bundle.folder import Bundle, require_new
from mindsight.volume import Volume
from training.calibration.glm_choice import VoxelRun, choose, slice_lags
from training.calibration.linear_choice import RunTrials, choose_linear, fit_linear

Labels = Literal["trial_type", "stim_file"]


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """A recorded run, and its trials."""

    recorded: RecordedRun
    trials: Trials


def calibrate(
    folders: Sequence[Path],
    labels: Labels,
    subject: str,
    created: datetime,
    mode: Mode = "nilearn",
    asked: Mapping[str, Any] | None = None,
    pool: CandidatePool | None = None,
    echo: EchoChoice = None,
) -> Bundle:
    """A linear bundle, not saved yet, that decodes into the embeddings of a pool, or tells labels apart.

    folders : two or more runs, see ``open_run``
    labels : column of the events that says what was shown; events without it are modelled, and no decoder is fitted to
        them
    mode : of the GLM's drift basis, see ``glm.streaming``
    asked : of ``IngestOptions``: ``fast_s``, ``fast_volumes``, ``fast_motion`` and so on, for calibration and sessions
    echo : which of several echoes, or all combined, see ``read_series``; sessions have to take the same
    pool : what the labels name candidates of, see ``CandidatePool.named``; None: the labels are the candidates

    What else of the GLM may be chosen is chosen on the runs, see ``glm_choice``; betas are z-scored by run.

    Raises BadRequest (``calibration.runs``, ``calibration.labels``), ModelMismatch (``pool.unknown_candidate``), and
    what reading the runs raises.
    """
    runs, names = labelled_runs(folders, labels, echo)
    classes = CandidatePool(names, np.eye(len(names), dtype=np.float32), names)
    pool = pool or classes
    place_of = {name: pool.place(pool.named(name)) for name in names}
    # to choose by, only what was shown: a pool of ten thousand would make every option slow
    shown = replace(classes, embeddings=pool.embeddings[[place_of[name] for name in names]])
    space = _space(runs[0].recorded)
    usual = replace(IngestOptions(normalise="run", mode=mode), **(asked or {}))
    chosen = choose(_voxel_runs(runs, space, usual, shown), shown, usual, slice_lags(space))
    space = replace(space, hrf_V=chosen.hrf_V, lag_V=chosen.lag_V, noise_pool_V=chosen.noise_pool_V)
    finals, baseline = ingest_runs(runs, space, chosen.options)
    trials = [run_trials(run, betas, place_of) for run, betas in zip(runs, finals, strict=True)]
    held_out = choose_linear(trials, pool, np.random.default_rng(0))
    return Bundle(
        kind="linear",
        subject=subject,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        options=chosen.options,
        space=space,
        statistics=statistics_of(finals),
        calibration=held_out.calibration,
        pool=pool,
        decoder=fit_linear(trials, pool, held_out.method),
        baseline=baseline,
        labels=labels,
        accuracy=held_out.accuracy,
    )


def labelled_runs(
    folders: Sequence[Path], labels: Labels, echo: EchoChoice = None
) -> tuple[list[LabelledRun], tuple[str, ...]]:
    """The runs, and all labels in them. Raises BadRequest as ``calibrate`` says."""
    if len(folders) < 2:
        raise BadRequest(
            f"expected two or more runs, so that each can be left out once, got {len(folders)}", code="calibration.runs"
        )
    recorded = [open_run(folder, number, echo=echo) for number, folder in enumerate(folders, 1)]
    runs = [LabelledRun(run, number_trials(run.events, labels)) for run in recorded]
    for run in runs:
        notes = (*run.recorded.notes, *run.trials.notes)
        _report([replace(note, text=f"run {run.recorded.run}: {note.text}") for note in notes])
    names = tuple(sorted({label for run in runs for label in run.trials.labels.values()}))
    without = [folder.name for folder, run in zip(folders, runs, strict=True) if not run.trials.labels]
    if len(names) < 2 or without:
        raise BadRequest(
            f"expected two or more different labels in the column {labels} of the runs' events, got {len(names)}"
            + (f", and none in {without[0]}" if without else ""),
            code="calibration.labels",
        )
    return runs, names


def middle_volume(recorded: RecordedRun) -> Volume:
    """Past the first volumes' approach to steady state."""
    return next(itertools.islice(recorded.volumes(), recorded.n_volumes // 2, None))


def _space(recorded: RecordedRun) -> SubjectSpace:
    """The middle volume of the run, and the head in it."""
    reference = middle_volume(recorded)
    return SubjectSpace(reference, brain_mask(reference.data))


def _voxel_runs(
    runs: Sequence[LabelledRun], space: SubjectSpace, options: IngestOptions, pool: CandidatePool
) -> list[VoxelRun]:
    session = IngestSession(options, space, clock=time.perf_counter)
    voxel_runs = []
    for run in runs:
        reports, _ = _push(session, run)
        session.end_run(run.recorded.run)
        unseen = session.unmeasured_trials(run.recorded.run)
        _report(unmeasured(run.recorded.run, unseen))
        shown = {trial: pool.place(label) for trial, label in run.trials.labels.items() if trial not in unseen}
        if not shown:
            raise BadRequest(
                f"expected trials in every run, got none that the volumes of run {run.recorded.run} show; leave it out",
                code="calibration.labels",
            )
        voxel_runs.append(
            VoxelRun(
                series_TV=session.run_series(run.recorded.run),
                confounds_TC=_confounds(run.recorded, reports),
                censored_T=np.array([report is None or report.censored for report in reports]),
                events=run.trials.events,
                shown=shown,
                tr_s=run.recorded.tr_s,
            )
        )
    return voxel_runs


def _confounds(recorded: RecordedRun, reports: Sequence[VolumeReport | None]) -> NDArray[np.float64]:
    """(T, C) what ingest took for confounds: the motion that came with the run, else the one it estimated, if any."""
    if recorded.motion_T6 is not None:
        return recorded.motion_T6[: len(reports)]
    motion: dict[int, list[float]] = {
        index: [*report.translation_mm, *report.rotation_rad]
        for index, report in enumerate(reports)
        if report is not None and report.translation_mm is not None and report.rotation_rad is not None
    }
    # A missing volume has a regressor of its own, so that its motion does not matter.
    nothing = [0.0] * (6 if motion else 0)
    return np.array([motion.get(index, nothing) for index in range(len(reports))], dtype=np.float64)


def ingest_runs(
    runs: Sequence[LabelledRun], space: SubjectSpace, options: IngestOptions
) -> tuple[list[list[TrialBeta]], Baseline]:
    """Final betas of each run's labelled trials, as a session that goes through all of them gives them, and what the
    signal was like."""
    session = IngestSession(options, space, clock=time.perf_counter)
    finals, signals = [], []
    for run in runs:
        reports, answers = _push(session, run)
        answers += session.end_run(run.recorded.run)
        labelled = [answer for answer in answers if answer.trial in run.trials.labels]
        finals.append([answer for answer in labelled if answer.stage == "final"])
        good_T = [report is not None and not report.censored for report in reports]
        signals.append(measure_signal(session.run_series(run.recorded.run)[good_T]))
    return finals, baseline_of(signals)


def _push(session: IngestSession, run: LabelledRun) -> tuple[list[VolumeReport | None], list[TrialBeta]]:
    """What ingest says of each volume, None for one that the recording does not have, and all its answers.

    Raises BadRequest (``calibration.place``) where the run's head is not the one of the runs before.
    """
    start_run(session, run.recorded, run.trials.events)
    reports: list[VolumeReport | None] = []
    answers: list[TrialBeta] = []
    for volume in run.recorded.volumes():
        answers += fill_gap(session, run.recorded.run, volume.index)
        reports += [None] * (volume.index - len(reports))
        output = session.push(volume)
        reports.append(output.report)
        answers += output.betas
    if not any(report is not None and report.aligned for report in reports):
        raise BadRequest(
            f"expected runs of one person: the head of run {run.recorded.run} could not be placed where the first's is."
            " Leave this run out, or check that its images are not flipped",
            code="calibration.place",
        )
    return reports, answers


def run_trials(run: LabelledRun, betas: Sequence[TrialBeta], place_of: Mapping[str, int]) -> RunTrials:
    z_KV = np.stack([z_scored(beta.beta_V, beta.mean_V, beta.std_V) for beta in betas])
    return RunTrials(z_KV, np.array([place_of[run.trials.labels[beta.trial]] for beta in betas]))


def statistics_of(finals: Sequence[Sequence[TrialBeta]]) -> Statistics:
    betas_KV = np.stack([beta.beta_V for betas in finals for beta in betas]).astype(np.float64)
    return Statistics(betas_KV.mean(axis=0).astype(np.float32), betas_KV.std(axis=0).astype(np.float32), len(betas_KV))


def summary(bundle: Bundle) -> str:
    """What a person wants to know of a new bundle."""
    options, calibration = bundle.options, bundle.calibration
    return "\n".join(
        [
            f"{len(bundle.pool)} candidates from {bundle.labels}, {bundle.space.n_voxels} voxels,"
            f" {bundle.statistics.n} trials",
            f"events {options.event_lag_s:+g} s, high-pass {options.high_pass_hz:g} Hz, noise {options.noise}"
            f"{_extras(bundle)}: chosen on these runs",
            f"{_fit(bundle)}: chosen on these runs",
            f"accuracy {bundle.accuracy}"
            + (
                " (each run left out once, options chosen on the same runs)"
                if bundle.kind == "linear"
                else " (held out only if the weights never saw these runs)"
            ),
            f"temperature {calibration.temperature:.3f}, mean confidence for shuffled betas"
            f" {calibration.null_confidence:.2f}",
        ]
    )


def _fit(bundle: Bundle) -> str:
    """How the decoder was fitted, and where candidates are seen from."""
    if not isinstance(bundle.decoder, LinearDecoder):
        return "MindEye2's weights as they are; temperature"
    inverted = np.isnan(bundle.decoder.penalty)
    fit = "an encoding model, inverted" if inverted else f"ridge regression, penalty {bundle.decoder.penalty:.3g}"
    return f"{fit}; candidates seen from {'the mean embedding' if bundle.calibration.centred else 'zero'}"


def _extras(bundle: Bundle) -> str:
    """What calibration switched on that is off by default."""
    options, extras = bundle.options, ""
    if options.event_duration_s is not None:
        extras += f", events modelled with {options.event_duration_s:g} s"
    if bundle.space.hrf_V is not None:
        extras += ", a response per voxel"
    if bundle.space.lag_V is not None:
        extras += ", slices at their own times"
    if options.ridge_fraction is not None:
        extras += f", late answers by ridge with fraction {options.ridge_fraction:g}"
    if options.n_noise_components:
        extras += f", {options.n_noise_components} noise components"
    return extras


def _waits(asked: Mapping[str, str | None]) -> dict[str, float]:
    """``fast_s`` and so on of what was asked for in seconds or volumes. Raises BadRequest (``calibration.wait``)."""
    waits: dict[str, float] = {}
    for stage, text in asked.items():
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*s|(\d+)\s*v", text or "")
        if text is not None and found is None:
            raise BadRequest(f"expected --{stage} like 7.5s or 5v, got {text!r}", code="calibration.wait")
        if found is not None and found[1] is not None:
            waits[f"{stage}_s"] = float(found[1])
        elif found is not None:
            waits[f"{stage}_volumes"] = int(found[2])
    return waits


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 after an error in one line on stderr."""
    parser = argparse.ArgumentParser(prog="mindsight calibrate", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a recorded run")
    parser.add_argument("--decoder", choices=["linear", "mindeye2"], default="linear")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="of mindeye2: what mindsight convert mindeye2 wrote; the weights stay as they are, with --pool and --mask",
    )
    parser.add_argument(
        "--mask", type=Path, metavar="NIFTI", help="of mindeye2: the voxels that the weights read, on the runs' grid"
    )
    parser.add_argument(
        "--layer", type=int, default=0, help="of mindeye2: which of several subjects' ridge layers (default 0)"
    )
    parser.add_argument("--labels", choices=["trial_type", "stim_file"], default="trial_type")
    parser.add_argument(
        "--pool",
        type=Path,
        metavar="POOL",
        help="candidate pool whose embeddings to decode into (mindsight pool build); labels name its candidates, by id"
        " or by file name; without: the labels are what is told apart",
    )
    parser.add_argument(
        "--echo", default="", help="of runs with several echoes: its number, or combine; default: first"
    )
    parser.add_argument("--subject", default="sub-01", help="pseudonym, e.g. sub-01")
    parser.add_argument(
        "--fixed-basis",
        action="store_true",
        help="one drift basis for the planned run: betas of finished trials change with new data only",
    )
    parser.add_argument(
        "--fast-motion", action="store_true", help="estimate head motion in half the time, at twice the error"
    )
    for stage, usual in {"fast": "7.5s", "revised": "27.5s", "final": "the end of the run"}.items():
        parser.add_argument(
            f"--{stage}",
            metavar="WAIT",
            help=f"when sessions give the {stage} answer, after a trial's onset: seconds, as 7.5s, or volumes, as 5v"
            f" (default {usual})",
        )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to make")
    given = parser.parse_args(arguments)
    if given.decoder == "linear" and (given.weights or given.mask or given.layer):
        parser.error("--weights, --mask and --layer are of --decoder mindeye2")
    if not re.fullmatch(r"sub-[A-Za-z0-9]+", given.subject):
        parser.error(f"expected a subject like sub-01, got {given.subject!r}")
    try:
        require_new(given.out)  # before minutes of work
        mode: Mode = "fixed" if given.fixed_basis else "nilearn"
        asked: dict[str, Any] = _waits({stage: getattr(given, stage) for stage in STAGES})
        asked["fast_motion"] = given.fast_motion
        pool = None if given.pool is None else CandidatePool.load(given.pool)
        if given.decoder == "linear":
            made = calibrate(
                given.runs, given.labels, given.subject, datetime.now(UTC), mode, asked, pool, parse_echo(given.echo)
            )
            bundle = made.save(given.out)
        else:
            bundle = _around_weights(given, pool, mode, asked)
    except MindsightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(bundle))
    return 0


def _around_weights(
    given: argparse.Namespace, pool: CandidatePool | None, mode: Mode, asked: Mapping[str, Any]
) -> Bundle:
    from training.calibration.released_bundle import Released, bundle_of

    if given.weights is None or given.mask is None or pool is None:
        raise BadRequest("expected --weights, --mask and --pool with --decoder mindeye2", code="calibration.weights")
    index = ReducedIndex.beside(given.pool, pool)
    released = Released(given.weights, given.mask, pool, index, given.layer)
    with tempfile.TemporaryDirectory() as scratch:
        made = bundle_of(
            released,
            given.runs,
            given.labels,
            given.subject,
            datetime.now(UTC),
            Path(scratch),
            mode,
            asked,
            parse_echo(given.echo),
        )
        return made.save(given.out)


def _report(notes: Sequence[Note]) -> None:
    for note in notes:
        print(f"{note.text} [{note.code}]", file=sys.stderr, flush=True)
