"""What a reconstruction's fit is worth: ``python -m training.generator.fit_figures --out FILE``.

Two visits of the demo's participant, to scenes of the bundle's pool and to scenes in no pool, go through the live
ingest code and are decoded and reconstructed at every stage with the bundle that ships. None of their trials was
calibrated on. Figures for each stage, of K trials:

- is the calibration honest: the percentiles of reconstructions that belong to other trials, which have to be uniform;
- does the fit tell good reconstructions from bad ones: the rank correlation (Spearman) of the token cosine with the
  pixel correlation to the image shown; beside it that of the ranking's confidence, and, as the control, of the token
  cosines of other trials.

Intervals are 95 %, by drawing trials with replacement.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from mindsight import assets
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.reconstruction_fit import FitMeter
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.fit import FitCalibration
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.fits import LabelledBeta, Reconstructions, live_betas, reconstruct
from training.datasets.simulated import simulated_runs
from training.generator.figures import correlations
from training.generator.through_brain import visits

LEVELS = (5, 25, 50, 75, 95)
N_DRAWS = 1000

Floats = NDArray[np.float64]


def interval(of: Callable[[NDArray[np.intp]], float], n: int) -> list[float]:
    """95 % interval of a figure of n trials, given as a function of their indices."""
    rng = np.random.default_rng(0)
    return [float(q) for q in np.quantile([of(rng.integers(n, size=n)) for _ in range(N_DRAWS)], (0.025, 0.975))]


def rank_correlation(left_K: Floats, right_K: Floats) -> dict[str, Any]:
    """Spearman's, with its interval."""

    def of(rows: NDArray[np.intp]) -> float:
        return float(stats.spearmanr(left_K[rows], right_K[rows]).statistic)

    return {"value": of(np.arange(len(left_K))), "interval": interval(of, len(left_K))}


def percentiles(made: Reconstructions, calibration: FitCalibration, stage: Stage) -> Floats:
    """(K, K) of the reconstruction of one trial (columns) with the tokens of another (rows)."""
    return np.array([[calibration.percentile(float(c), stage) for c in row] for row in made.cosines_KK], np.float64)


def uniformity(percentiles_KK: Floats, mismatched_KK: NDArray[np.bool_]) -> dict[str, Any]:
    """Shares of mismatched reconstructions below each percentile, which should be these percentiles."""

    def below(rows: NDArray[np.intp], level: float) -> float:
        pairs = np.ix_(rows, rows)
        return 100.0 * float(np.mean(percentiles_KK[pairs][mismatched_KK[pairs]] < level))

    n = len(percentiles_KK)
    return {
        str(level): {
            "percent_below": below(np.arange(n), level),
            "interval": interval(lambda rows, at=float(level): below(rows, at), n),  # type: ignore[misc]
        }
        for level in LEVELS
    }


def evaluate(
    decoder: TrialDecoder, meter: FitMeter, trials: list[LabelledBeta], images_KHW3: NDArray[np.uint8], stage: Stage
) -> dict[str, Any]:
    """Figures of one stage of a visit."""
    made = reconstruct(decoder, meter, trials)
    calibration = decoder.bundle.fit
    assert made is not None
    assert calibration is not None
    correlation_K = np.diag(correlations(made.pixels_KHW3, images_KHW3))
    cosine_K = np.diag(made.cosines_KK).astype(np.float64)
    retrieved = [decoder.retrieve(one.beta.beta_V, one.beta.mean_V, one.beta.std_V) for one in trials]
    found_KK, mismatched_KK = percentiles(made, calibration, stage), made.mismatched_KK
    confidence_K = np.array([one.confidence for one in retrieved])
    own_K = np.diag(found_KK)
    return {
        "trials": len(trials),
        "pixel_correlation": float(correlation_K.mean()),
        "token_cosine_median": float(np.median(cosine_K)),
        "token_cosine_median_of_mismatched": float(np.median(made.cosines_KK[mismatched_KK])),
        "fit_percentile_median": float(np.median(own_K)),
        "share_of_fit_percentiles_above_95": float(np.mean(own_K > 95.0)),
        "mismatched_percentiles": uniformity(found_KK, mismatched_KK),
        "rank_correlation_with_pixel_correlation": {
            "token_cosine": rank_correlation(cosine_K, correlation_K),
            "confidence_of_the_ranking": rank_correlation(confidence_K, correlation_K),
            "token_cosine_of_another_trial": rank_correlation(np.roll(cosine_K, 7), correlation_K),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=assets.BUNDLE)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, bundle = DemoEncoder.load(assets.ENCODER), Bundle.load(arguments.bundle)
    generator = DemoGenerator.load(assets.GENERATOR)
    decoder = TrialDecoder(bundle, clock=time.perf_counter, generator=generator)
    meter = FitMeter(encoder, generator)
    found: dict[str, Any] = {}
    for name, visit in visits(encoder).items():
        betas = live_betas(bundle, simulated_runs(visit))
        found[name] = {}
        for stage in STAGES:
            trials = [one for one in betas if one.beta.stage == stage]
            images_KHW3 = visit.images_NHW3[[int(one.label) for one in trials]]
            found[name][stage] = evaluate(decoder, meter, trials, images_KHW3, stage)
            print(name, stage, json.dumps(found[name][stage]), flush=True)
    found["digests"] = {"bundle": bundle.digest, "generator": generator.digest, "encoder": encoder.digest}
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))
    arguments.out.write_text(json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    main()
