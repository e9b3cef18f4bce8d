"""A record of a calibration that was never made, with known figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindsight.accuracy import Accuracy
from mindsight.evaluation.calibration_record import (
    CalibrationRecord,
    Control,
    DrawnTrial,
    LearningPoint,
    LeftOutTrial,
    NoiseCeiling,
    RunQuality,
    RunRegistration,
)
from mindsight.stages import STAGES

VOXELS, POOL = 30, 20


def record_of(
    n_trials: int, right: float = 0.5, curve: Sequence[tuple[int, float]] = ((60, 0.3), (120, 0.4)), n_tested: int = 200
) -> CalibrationRecord:
    """Two runs of trials, of which about this share is right, and a curve of (trials, share right of ``n_tested``)."""
    rng = np.random.default_rng(3)
    trials = []
    for number in range(n_trials):
        for stage in STAGES:
            hit = rng.random() < right
            shown, other = f"image-{number % POOL}", f"image-{(number + 1) % POOL}"
            trials.append(
                LeftOutTrial(
                    run=1 + number % 2,
                    trial=1 + number // 2,
                    stage=stage,
                    image=shown,
                    first=shown if hit else other,
                    image_rank=1 if hit else 2 + int(rng.integers(POOL - 1)),
                    n_images=POOL,
                    brain_rank=1 if hit else 2,
                    n_brains=POOL,
                    confidence=right,
                    n_run=1 + number // 2,
                )
            )
    run = RunQuality(
        run=1,
        volumes=200,
        minutes=6.0,
        trials=n_trials // 2,
        censored=3,
        missing=0,
        flagged=1,
        fd_mm_mean=0.08,
        fd_mm_max=0.7,
        dvars_percent_median=1.1,
        tsnr=60.0,
        alerts=("The head moved.",),
    )
    place = RunRegistration(
        run=1, how="subject", trusted=True, displacement_mm=0.4, coverage=1.0, unexplained=0.01, text="0.4 mm away"
    )
    return CalibrationRecord(
        subject="sub-01",
        created="2026-01-01T00:00:00+00:00",
        decoder="linear: ridge",
        held_out="each run left out once",
        pool_size=POOL,
        voxels=VOXELS,
        minutes=12.0,
        trials=tuple(trials),
        curve=tuple(
            LearningPoint(trials=n, minutes=n / 10, accuracy=Accuracy(round(share * n_tested), n_tested, 1 / POOL))
            for n, share in curve
        ),
        ceiling=NoiseCeiling(
            images=10,
            trials=n_trials,
            signal_share_median=0.1,
            signal_share_p90=0.4,
            reliable_voxels=12,
            voxels=VOXELS,
            identified=Accuracy(6, 12, 0.1),
        ),
        controls=(Control(what="labels shuffled before the fit", accuracy=Accuracy(10, n_tested, 1 / POOL)),),
        runs=(run,),
        registrations=(place,),
        drawn=tuple(DrawnTrial(run=1, trial=1 + k, stage="final", image=f"image-{k}") for k in range(2)),
        reliability_V=np.linspace(-0.1, 0.6, VOXELS, dtype=np.float32),
        drawn_KHW3=np.full((2, 8, 8, 3), 90, np.uint8),
    )
