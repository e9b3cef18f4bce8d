"""The runs of a calibration visit as betas: from recorded runs, or from whatever else estimated them.

Knows nothing of decoders. Letters: K betas, V voxels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.decoding import z_scored
from mindsight.evaluation.calibration_record import RunQuality, RunRegistration
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.weights.tensors import pack_tensors, read_metadata, read_tensors
from training.calibration.runs import LabelledRun, ingest_run, run_signal

_FIELDS = ("run", "trial", "stage", "error", "n_volumes", "flagged", "n_statistics", "normalised_by", "n_run")


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationRun:
    """One run that has ended.

    betas : of all its trials at all stages, in the order in which they were estimated, with the statistics that
        travelled with each, by a session whose mask has these V voxels
    shown : label of what each trial showed; trials without one are not used
    minutes : of scanning
    signal_2V : see ``measure_signal``; None if it was not measured
    """

    run: int
    betas: Sequence[TrialBeta]
    shown: Mapping[int, str]
    minutes: float
    signal_2V: NDArray[np.float32] | None = None
    quality: RunQuality | None = None
    registration: RunRegistration | None = None

    @property
    def labelled(self) -> list[TrialBeta]:
        return [beta for beta in self.betas if beta.trial in self.shown]

    @property
    def finals(self) -> list[TrialBeta]:
        """Labelled trials at the final stage."""
        return [beta for beta in self.labelled if beta.stage == "final"]


def z_of(betas: Sequence[TrialBeta]) -> NDArray[np.float32]:
    """(K, V) z-scored by the statistics that travelled with each."""
    return np.stack([z_scored(beta.beta_V, beta.mean_V, beta.std_V) for beta in betas])


def ingest_visit(
    runs: Sequence[LabelledRun], space: SubjectSpace, options: IngestOptions, scratch: Path
) -> Iterator[CalibrationRun]:
    """Recorded runs through ingest, one after the other; a run that was kept in ``scratch`` is read instead.

    options : that normalise by run, so that nothing of a run depends on those before it

    Raises what ``ingest_run`` raises.
    """
    session = IngestSession(options, space, clock=time.perf_counter)
    for run in runs:
        kept = scratch / f"run-{run.recorded.run:03d}.safetensors"
        if kept.is_file():
            yield read_run(kept)
            continue
        ingested = ingest_run(session, run)
        signal_2V = run_signal(session, run.recorded.run, ingested)
        minutes = run.recorded.n_volumes * run.recorded.tr_s / 60.0
        made = CalibrationRun(
            run=run.recorded.run, betas=ingested.betas, shown=run.trials.labels, minutes=minutes, signal_2V=signal_2V
        )
        keep_run(made, kept)
        yield made


def keep_run(run: CalibrationRun, file: Path) -> None:
    """Write the betas and labels, whole or not at all. Quality and registration are not kept."""
    from mindsight.files.durable import write_durably

    betas = run.labelled
    tensors: dict[str, NDArray[Any]] = {
        name: np.stack([getattr(beta, name) for beta in betas]) for name in ("beta_V", "mean_V", "std_V")
    }
    if run.signal_2V is not None:
        tensors["signal_2V"] = run.signal_2V
    described = {
        "run": run.run,
        "minutes": run.minutes,
        "shown": {str(trial): label for trial, label in run.shown.items()},
        "betas": [{name: getattr(beta, name) for name in _FIELDS} for beta in betas],
    }
    write_durably(file, pack_tensors(tensors, {"run": json.dumps(described)}))


def read_run(file: Path) -> CalibrationRun:
    """What ``keep_run`` wrote. Raises ModelMismatch (``model.file``)."""
    tensors, described = read_tensors(file), json.loads(read_metadata(file)["run"])
    betas = [
        TrialBeta(
            **fields,
            beta_V=tensors["beta_V"][k],
            error_V=None,
            mean_V=tensors["mean_V"][k],
            std_V=tensors["std_V"][k],
        )
        for k, fields in enumerate(described["betas"])
    ]
    return CalibrationRun(
        run=described["run"],
        betas=betas,
        shown={int(trial): label for trial, label in described["shown"].items()},
        minutes=described["minutes"],
        signal_2V=tensors.get("signal_2V"),
    )
