"""The fit of reconstructions is calibrated on trials that the decoder has not seen, and the calibration is honest."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest

from mindsight import assets
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.registry import load_encoder_of
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.quantiles import share_below
from mindsight.reconstruction_fit import FitMeter
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.experiment import Design
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume
from training.calibration.fits import (
    LabelledBeta,
    LeftOut,
    Reconstructions,
    Reconstructor,
    calibrate_fit,
    mismatched_fit,
    reconstruct,
    together,
)
from training.datasets.simulated import simulated_runs

V, N_SCENES, N_TRIALS = 80, 60, 30


@pytest.fixture(scope="module")
def reconstructor() -> Reconstructor:
    generator = DemoGenerator.load(assets.GENERATOR)
    return Reconstructor(generator, FitMeter(load_encoder_of(assets.GENERATOR), generator), n=4)


@dataclass(frozen=True)
class World:
    """A participant whose voxels are noisy mixtures of the tokens, and a decoder fitted to other trials."""

    bundle: Bundle
    trials: list[LabelledBeta]


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(3)
    encoder = DemoEncoder.load(assets.ENCODER)
    tokens_NTD = encoder.encode(render_batch(random_scenes(rng, N_SCENES), encoder.image_size))
    mixing_DV = rng.normal(size=(tokens_NTD[0].size, V))

    def trials(n: int) -> tuple[np.ndarray, np.ndarray]:
        shown = rng.integers(N_SCENES, size=n)
        z_KV = tokens_NTD[shown].reshape(n, -1) @ mixing_DV
        return ((z_KV - z_KV.mean(axis=0)) / z_KV.std(axis=0) + rng.normal(size=(n, V))).astype(np.float32), shown

    fitted_KV, fitted = trials(400)
    z_KV, shown = trials(2 * N_TRIALS)
    mask = np.zeros((V, 1, 1), np.bool_)
    mask[:] = True
    zero_V, one_V = np.zeros(V, np.float32), np.ones(V, np.float32)
    bundle = Bundle(
        subject="sub-test",
        created="2026-01-01T00:00:00+00:00",
        options=IngestOptions(),
        space=SubjectSpace(Volume(np.zeros((V, 1, 1), np.float32), np.eye(4), 1.5, 1, 0), mask),
        statistics=Statistics(zero_V, one_V, 400),
        calibration=Calibration(0.1, 0.2, 1.0, 400, centred=True),
        pool=CandidatePool(tuple(map(str, range(N_SCENES))), tokens_NTD),
        decoder=LinearDecoder.fit(fitted_KV, tokens_NTD[fitted]),
    )
    betas = [
        TrialBeta(
            run=1, trial=k + 1, stage="final", beta_V=z_KV[k], error_V=None, error=None, n_volumes=9, flagged=False,
            mean_V=zero_V, std_V=one_V, n_statistics=400, normalised_by="bundle",
        )
        for k in range(2 * N_TRIALS)
    ]  # fmt: skip
    return World(bundle, [LabelledBeta(beta, str(label)) for beta, label in zip(betas, shown, strict=True)])


@pytest.fixture(scope="module")
def halves(world: World, reconstructor: Reconstructor) -> list[Reconstructions]:
    decoder = TrialDecoder(world.bundle, clock=time.perf_counter, generator=reconstructor.generator)
    made = [
        reconstruct(decoder, reconstructor.meter, world.trials[part])
        for part in (slice(None, N_TRIALS), slice(N_TRIALS, None))
    ]
    assert made[0] is not None
    assert made[1] is not None
    return [made[0], made[1]]


@pytest.mark.slow
def test_a_mismatched_reconstruction_has_any_percentile_alike(halves: list[Reconstructions]) -> None:
    """On trials that were not calibrated on. Pairs depend on each other: 30 reconstructions, so that a share
    has a standard deviation of up to 0.09 if all pairs of one go together; three of these."""
    calibration, held_out = mismatched_fit(halves[0]), halves[1]
    shares = [share_below(float(c), calibration.quantiles) for c in held_out.cosines_KK[held_out.mismatched_KK]]
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.mean(np.array(shares) < level) == pytest.approx(level, abs=0.27)
    assert np.mean(shares) == pytest.approx(0.5, abs=3 * 0.29 / np.sqrt(N_TRIALS))


@pytest.mark.slow
def test_a_reconstruction_of_the_tokens_own_fits_better(halves: list[Reconstructions]) -> None:
    calibration, held_out = mismatched_fit(halves[0]), halves[1]
    own = [share_below(float(c), calibration.quantiles) for c in np.diag(held_out.cosines_KK)]
    assert np.median(own) > 0.95


@pytest.mark.slow
def test_trials_that_showed_one_image_are_no_mismatch(halves: list[Reconstructions]) -> None:
    both = together([None, *halves])
    assert both is not None
    labels = np.array(both.labels)
    assert len(np.unique(labels)) < len(labels)
    assert not both.mismatched_KK[labels[:, None] == labels[None]].any()
    assert both.mismatched_KK[labels[:, None] != labels[None]].all()


@pytest.mark.slow
def test_every_stage_is_calibrated_as_a_session_decodes_it(reconstructor: Reconstructor) -> None:
    bundle, encoder = Bundle.load(assets.BUNDLE), DemoEncoder.load(assets.ENCODER)
    runs = simulated_runs(
        demo_visit(encoder.encode, encoder.image_size, seed=3, n_runs=1, design=Design(trials_per_run=8))
    )
    found = calibrate_fit(bundle, runs, [LeftOut([1], bundle.decoder)], reconstructor)
    assert found is not None
    assert (found.encoder, found.generator) == (encoder.digest, reconstructor.generator.digest)
    assert {stage: others.n for stage, others in found.stages.items()} == {"fast": 4, "revised": 4, "final": 4}
    assert all(np.diff(others.quantiles).min() >= 0.0 for others in found.stages.values())


def test_a_decoder_without_tokens_has_none(world: World, reconstructor: Reconstructor) -> None:
    flat = world.bundle.pool.flat_ND
    decoder = LinearDecoder.fit(np.eye(N_SCENES, V), flat)
    bundle = Bundle(
        **{name: getattr(world.bundle, name) for name in ("subject", "created", "options", "space", "statistics")},
        calibration=world.bundle.calibration,
        pool=CandidatePool(world.bundle.pool.ids, flat),
        decoder=decoder,
    )
    assert calibrate_fit(bundle, [], [LeftOut([1], decoder)], reconstructor) is None
