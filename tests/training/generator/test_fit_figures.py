"""The figures of a reconstruction's fit: what they say of known distributions, and of the bundle that ships."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mindsight import assets
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.reconstruction_fit import FitMeter
from mindsight.simulator.demo import demo_visit
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.fits import live_betas
from training.datasets.simulated import simulated_runs
from training.generator.fit_figures import evaluate, rank_correlation, uniformity

rng = np.random.default_rng(0)
N = 60
MISMATCHED = ~np.eye(N, dtype=np.bool_)


def test_uniform_percentiles_are_found_so_and_others_are_not() -> None:
    uniform = uniformity(rng.uniform(0.0, 100.0, (N, N)), MISMATCHED)
    for level, found in uniform.items():
        low, high = found["interval"]
        assert low <= found["percent_below"] <= high
        assert found["percent_below"] == pytest.approx(float(level), abs=3.0)  # 3,540 pairs
    high = uniformity(100.0 * rng.uniform(0.0, 1.0, (N, N)) ** 0.5, MISMATCHED)
    assert high["50"]["interval"][1] < 50.0


@pytest.mark.slow
def test_a_rank_correlation_has_an_interval_of_its_trials() -> None:
    left, noise = rng.normal(size=N), rng.normal(size=N)
    same, partly, none = (rank_correlation(left, right) for right in (left**3, left + noise, noise))
    assert same["value"] == pytest.approx(1.0)
    assert partly["interval"][0] > 0.4
    assert none["interval"][0] < 0.0 < none["interval"][1]


@pytest.mark.slow
def test_the_fit_of_the_demos_reconstructions_is_calibrated() -> None:
    """One run of a new visit. Half of the mismatched reconstructions lie below the 50th percentile, within three
    standard deviations of 30 trials whose pairs go together."""
    encoder, bundle = DemoEncoder.load(assets.ENCODER), Bundle.load(assets.BUNDLE)
    generator = DemoGenerator.load(assets.GENERATOR)
    visit = demo_visit(encoder.encode, encoder.image_size, seed=51, n_runs=1)
    finals = [one for one in live_betas(bundle, simulated_runs(visit)) if one.beta.stage == "final"]
    decoder = TrialDecoder(bundle, clock=time.perf_counter, generator=generator)
    shown = visit.images_NHW3[[int(one.label) for one in finals]]
    found = evaluate(decoder, FitMeter(encoder, generator), finals, shown, "final")
    assert found["trials"] == 30
    assert found["mismatched_percentiles"]["50"]["percent_below"] == pytest.approx(50.0, abs=3 * 50 / 30**0.5)
    assert found["share_of_fit_percentiles_above_95"] >= 0.9
    assert found["token_cosine_median"] > found["token_cosine_median_of_mismatched"] + 0.4
