"""The GLM's options that recorded runs support: ingested once for their voxels, see ``glm_choice``; kept in a file.

Knows nothing of decoders. Letters: V voxels, T volumes of a run, C confounds, N images shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from mindsight.errors import BadRequest
from mindsight.events import unmeasured
from mindsight.files.durable import write_durably
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import VolumeReport
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool
from mindsight.scanner import RecordedRun
from mindsight.weights.tensors import pack_tensors, read_metadata, read_tensors
from training.calibration.glm_choice import Chosen, VoxelRun, choose, slice_lags
from training.calibration.runs import LabelledRun, Report, ingest_run, part, print_notes, silent

READ = 0.6  # share of the time that is over when the runs are read, about
_OPTIONS = TypeAdapter(IngestOptions)


def choose_model(
    runs: Sequence[LabelledRun],
    space: SubjectSpace,
    options: IngestOptions,
    pool: CandidatePool,
    report: Report = silent,
    *,
    noise_pool: bool = True,
) -> Chosen:
    """``options`` with the changes that these runs (two or more) support.

    pool : its candidates are the labels of the trials
    noise_pool : whether noise components may be chosen; they are of voxels that must then stay in the mask

    Raises BadRequest (``calibration.labels``) for a run that shows no trial, and what ``ingest_run`` raises.
    """
    voxel_runs = _voxel_runs(runs, space, options, pool, part(report, 0.0, READ))
    report("choosing the model of the response", READ)
    return choose(voxel_runs, in_own_span(pool), options, slice_lags(space), noise_components=noise_pool)


def in_space(chosen: Chosen, space: SubjectSpace) -> SubjectSpace:
    """The space with what was chosen for each voxel."""
    return replace(space, hrf_V=chosen.hrf_V, lag_V=chosen.lag_V, noise_pool_V=chosen.noise_pool_V)


def keep_choice(chosen: Chosen, file: Path) -> None:
    """Write it, whole or not at all."""
    of_voxels = {name: getattr(chosen, name) for name in ("hrf_V", "lag_V", "noise_pool_V")}
    held = {name: values for name, values in of_voxels.items() if values is not None}
    write_durably(file, pack_tensors(held, {"options": _OPTIONS.dump_json(chosen.options).decode()}))


def read_choice(file: Path) -> Chosen:
    """What ``keep_choice`` wrote. Raises ModelMismatch (``model.file``)."""
    options = _OPTIONS.validate_json(read_metadata(file)["options"])
    return Chosen(options, **read_tensors(file))


def in_own_span(pool: CandidatePool) -> CandidatePool:
    """The same candidates with at most N numbers each: coordinates in which all products of two are the same.

    Ridge regression to them, and cosines with them, are what they were. An image's tokens are 425,984 numbers at the
    published size.
    """
    flat_ND = np.asarray(pool.flat_ND, np.float32)
    if flat_ND.shape[1] <= len(pool):
        return pool
    values_N, vectors_NN = np.linalg.eigh((flat_ND @ flat_ND.T).astype(np.float64))
    own_NN = vectors_NN * np.sqrt(values_N.clip(0.0))
    return CandidatePool(pool.ids, own_NN.astype(np.float32), pool.labels)


def _voxel_runs(
    runs: Sequence[LabelledRun], space: SubjectSpace, options: IngestOptions, pool: CandidatePool, report: Report
) -> list[VoxelRun]:
    session = IngestSession(options, space, clock=time.perf_counter)
    voxel_runs = []
    for k, run in enumerate(runs):
        ingested = ingest_run(session, run, part(report, k / len(runs), (k + 1) / len(runs)))
        unseen = session.unmeasured_trials(run.recorded.run)
        print_notes(unmeasured(run.recorded.run, unseen))
        shown = {trial: pool.index_of(label) for trial, label in run.trials.labels.items() if trial not in unseen}
        if not shown:
            raise BadRequest(
                f"expected trials in every run, got none that the volumes of run {run.recorded.run} show; leave it out",
                code="calibration.labels",
            )
        voxel_runs.append(
            VoxelRun(
                series_TV=session.run_series(run.recorded.run),
                confounds_TC=_confounds(run.recorded, ingested.reports),
                censored_T=ingested.censored_T,
                events=run.trials.events,
                shown=shown,
                tr_s=run.recorded.tr_s,
            )
        )
    return voxel_runs


def _confounds(recorded: RecordedRun, reports: Sequence[VolumeReport | None]) -> NDArray[np.float64]:
    """(T, C) the confounds that ingest took: the motion recorded with the run, else the motion it estimated, if any."""
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
