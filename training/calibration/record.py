"""What a calibration on runs measured, from the trials that each decoder was not fitted to.

Knows nothing of decoders: it is given scores. Letters: K trials, V voxels, N candidates, M shuffled trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy
from mindsight.evaluation.calibration_record import (
    CalibrationRecord,
    Control,
    DrawnTrial,
    LeftOutTrial,
    RunQuality,
    RunRegistration,
    ranks_both_ways,
)
from mindsight.evaluation.calibration_report import save_with_report
from mindsight.evaluation.controls import exchanged
from mindsight.evaluation.noise_ceiling import noise_ceiling
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.retrieval import Calibration, fit_stages, fit_temperature
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.fits import Reconstructions
from training.calibration.linear_choice import RunTrials
from training.calibration.live import ScoredRun, by_stage
from training.calibration.runs import IngestedRun, LabelledRun

N_DRAWN = 12  # reconstructions in the report


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A bundle, not saved yet, and what its calibration measured."""

    bundle: Bundle
    record: CalibrationRecord

    def save(self, folder: Path, *, template: bool = False) -> Bundle:
        """Write the bundle with its report, see ``save_with_report``."""
        return save_with_report(self.bundle, self.record, folder, template=template)


def record_of(
    bundle: Bundle,
    runs: Sequence[LabelledRun],
    ingested: Sequence[IngestedRun],
    trials: Sequence[RunTrials],
    scored: Sequence[ScoredRun],
    null_MN: NDArray[np.float32],
    *,
    held_out: str,
    decoders: Sequence[str] = (),
) -> CalibrationRecord:
    """All but the curve, the control of a fit to shuffled labels, and the reconstructions.

    trials, scored : of each run
    null_MN : scores of shuffled betas
    held_out : how trials were left out, in words
    decoders : digest of what decoded each run
    """
    quality = tuple(quality_of(run, one) for run, one in zip(runs, ingested, strict=True))
    z_KV, shown_K = (np.concatenate([getattr(run, name) for run in trials]) for name in ("z_KV", "shown_K"))
    run_K = np.repeat([run.recorded.run for run in runs], [len(run.shown_K) for run in trials])
    control = exchanged_control(scored)
    found = noise_ceiling(z_KV, shown_K, run_K)
    return CalibrationRecord(
        subject=bundle.subject,
        created=bundle.created,
        decoder=f"{bundle.kind}: {bundle.decoder.describe()}",
        held_out=held_out,
        pool_size=len(bundle.pool),
        voxels=bundle.space.n_voxels,
        minutes=sum(run.minutes for run in quality),
        trials=left_out_trials(scored, confidences(scored, bundle.calibration, null_MN), bundle.pool.ids, decoders),
        controls=() if control is None else (control,),
        ceiling=None if found is None else found[0],
        reliability_V=None if found is None else found[1],
        runs=quality,
        registrations=tuple(registration_of(report) for one in ingested for report in one.registrations),
    )


def exchanged_control(scored: Sequence[ScoredRun], seed: int = 0) -> Control | None:
    """The last stage's results compared with what other trials showed: what any trial's result would be right by."""
    last = list(by_stage(scored).values())[-1]
    shown_K = last.right_KN.argmax(axis=1)
    order_K = exchanged(np.zeros(len(shown_K)), np.random.default_rng(seed)) if len(shown_K) > 1 else shown_K[:0]
    others_K = shown_K[order_K]
    differ_K = others_K != shown_K[: len(order_K)]
    if not differ_K.any():
        return None
    first_K = last.scores_KN.argmax(axis=1)
    accuracy = Accuracy.of((first_K == others_K)[differ_K].tolist(), 1.0 / last.scores_KN.shape[1])
    return Control(what="compared with what other trials showed", accuracy=accuracy)


def confidences(
    scored: Sequence[ScoredRun], calibration: Calibration, null_MN: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """(K,) of each run's betas, of the first candidate, by the temperatures that the other half of the runs give: the
    runs in turns, first to one half, then to the other.

    calibration : whose score and stages these are; as it is if there is one run only
    """
    fitted = [calibration, calibration]
    for half in (0, 1):
        others = scored[1 - half :: 2]
        if others and len(scored) > 1:
            fitted[half] = _fitted(others, calibration, null_MN)
    return [
        np.array(
            [
                own.at(beta.stage, beta.n_run, beta.trial).probabilities(scores_N).max()
                for beta, scores_N in zip(run.betas, run.scores_KN, strict=True)
            ]
        )
        for run, own in zip(scored, (fitted[number % 2] for number in range(len(scored))), strict=True)
    ]


def _fitted(runs: Sequence[ScoredRun], calibration: Calibration, null_MN: NDArray[np.float32]) -> Calibration:
    stages = by_stage(runs)
    last = stages[next(stage for stage in reversed(STAGES) if stage in stages)]
    common = fit_temperature(last.scores_KN, last.right_KN, null_MN, calibration.score)
    return fit_stages(replace(common, centred=calibration.centred), stages, null_MN)


def left_out_trials(
    scored: Sequence[ScoredRun],
    confidence: Sequence[NDArray[np.float64]],
    ids: Sequence[str],
    decoders: Sequence[str] = (),
) -> tuple[LeftOutTrial, ...]:
    """Every beta of the runs, ranked both ways among those of its stage.

    confidence : (K,) of each run's betas
    ids : of the pool's candidates
    """
    digests = decoders or [""] * len(scored)
    betas = [
        (beta, digest, float(sure))
        for run, digest, sure_K in zip(scored, digests, confidence, strict=True)
        for beta, sure in zip(run.betas, sure_K, strict=True)
    ]
    scores_KN = np.concatenate([run.scores_KN for run in scored])
    shown_K = np.concatenate([run.shown_K for run in scored])
    stage_K = np.array([beta.stage for beta, _, _ in betas])
    made: dict[int, LeftOutTrial] = {}
    for stage in STAGES:
        rows = np.flatnonzero(stage_K == stage)
        if not len(rows):
            continue
        ranks = ranks_both_ways(scores_KN[rows], shown_K[rows])
        for row, image_rank, brain_rank, n_brains in zip(rows, *ranks, strict=True):
            beta, digest, sure = betas[row]
            made[int(row)] = LeftOutTrial(
                run=beta.run,
                trial=beta.trial,
                stage=stage,
                image=ids[shown_K[row]],
                first=ids[int(np.argmax(scores_KN[row]))],
                image_rank=int(image_rank),
                n_images=len(ids),
                brain_rank=int(brain_rank),
                n_brains=int(n_brains),
                confidence=sure,
                n_run=beta.n_run,
                decoder=digest,
            )
    return tuple(made[row] for row in sorted(made))


def quality_of(run: LabelledRun, ingested: IngestedRun) -> RunQuality:
    """One run's motion and quality."""
    reports = [report for report in ingested.reports if report is not None]
    fd_mm = [report.fd_mm for report in reports if report.fd_mm is not None]
    dvars = [report.dvars_percent for report in reports if report.dvars_percent is not None]
    tsnr = [report.tsnr for report in reports if report.tsnr is not None]
    finals = [beta for beta in ingested.betas if beta.stage == "final" and beta.trial in run.trials.labels]
    return RunQuality(
        run=run.recorded.run,
        volumes=len(ingested.reports),
        minutes=len(ingested.reports) * run.recorded.tr_s / 60.0,
        trials=len(finals),
        censored=int(ingested.censored_T.sum()),
        missing=len(ingested.reports) - len(reports),
        flagged=sum(beta.flagged for beta in finals),
        fd_mm_mean=float(np.mean(fd_mm)) if fd_mm else None,
        fd_mm_max=float(np.max(fd_mm)) if fd_mm else None,
        dvars_percent_median=float(np.median(dvars)) if dvars else None,
        tsnr=float(tsnr[-1]) if tsnr else None,
        alerts=tuple(
            dict.fromkeys(
                alert.text for report in reports for alert in report.alerts if not alert.code.endswith(".over")
            )
        ),
    )


def registration_of(report: RegistrationReport) -> RunRegistration:
    """In figures."""
    return RunRegistration(
        run=report.run,
        how=report.how,
        trusted=report.trusted,
        displacement_mm=report.displacement_mm,
        coverage=report.coverage,
        unexplained=report.unexplained,
        text=report.describe(),
    )


def with_reconstructions(
    record: CalibrationRecord, made: Mapping[Stage, Reconstructions], ids_of: Mapping[str, str]
) -> CalibrationRecord:
    """The record with up to N_DRAWN reconstructions of the last stage, evenly spaced.

    ids_of : label of a trial -> id of its candidate
    """
    stage = next((stage for stage in reversed(STAGES) if stage in made), None)
    if stage is None:
        return record
    held = made[stage]
    n = len(held.labels)
    chosen = np.unique(np.linspace(0, n - 1, min(n, N_DRAWN)).round().astype(int))
    drawn = tuple(
        DrawnTrial(run=held.trials[i][0], trial=held.trials[i][1], stage=stage, image=ids_of[held.labels[i]])
        for i in chosen
    )
    return replace(record, drawn=drawn, drawn_KHW3=held.pixels_KHW3[chosen])
