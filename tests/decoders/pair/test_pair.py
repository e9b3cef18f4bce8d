"""Two decoders as one: which of them ranks, which gives the tokens, and what does not go together."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.decoders.base import DecoderWeights
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.mindeye2.decoder import BACKBONE
from mindsight.decoders.pair.decoder import PairWeights
from mindsight.decoders.registry import load_weights
from mindsight.decoding import TrialDecoder
from mindsight.errors import ModelMismatch
from mindsight.retrieval import rank
from support.families import N_VOXELS, SPACE, mindeye2_weights
from support.linear_bundle import linear_bundle

Z_1V = np.random.default_rng(1).normal(size=(1, N_VOXELS)).astype(np.float32)


@pytest.fixture
def drawn(tmp_path: Path) -> DecoderWeights:
    return mindeye2_weights(tmp_path)


def linear(n_voxels: int = N_VOXELS) -> LinearDecoder:
    rng, n = np.random.default_rng(0), int(np.prod(SPACE.shape))
    weights_VD = rng.normal(size=(n_voxels, n)).astype(np.float32)
    return LinearDecoder(weights_VD, rng.normal(size=n).astype(np.float32), SPACE.shape, 3.0)


def test_the_first_ranks_and_the_second_gives_the_tokens(drawn: DecoderWeights, tmp_path: Path) -> None:
    whole = linear_bundle(SPACE.shape)
    centred = replace(whole.calibration, centred=True)
    bundle = replace(whole, decoder=PairWeights(linear(), drawn), calibration=centred).save(tmp_path / "bundle")
    assert bundle.kind == "pair"
    assert bundle.decoder.describe() == "ranked by linear, ridge regression, penalty 3; images by mindeye2"
    decoder, alone = bundle.decoder.decoder(bundle.pool.space), drawn.decoder(bundle.pool.space)
    features = decoder(Z_1V)
    np.testing.assert_array_equal(features[decoder.query], linear().predict(Z_1V))
    np.testing.assert_array_equal(features[BACKBONE], alone(Z_1V)[BACKBONE])
    clock = map(float, itertools.count())
    found = TrialDecoder(bundle, clock=lambda: next(clock)).retrieve(Z_1V[0], np.zeros(N_VOXELS), np.ones(N_VOXELS))
    best = rank(linear().predict(Z_1V)[0], bundle.pool, 1, linear().origin).indices_K[0]
    assert found.candidates[0].id == bundle.pool.ids[best]


def test_two_of_other_voxels_are_refused(drawn: DecoderWeights) -> None:
    with pytest.raises(ModelMismatch, match="calibrate again") as error:
        PairWeights(linear(N_VOXELS - 1), drawn).decoder(SPACE)
    assert error.value.code == "decoder.voxel_count"


def test_images_are_not_generated_from_what_ranks(drawn: DecoderWeights) -> None:
    with pytest.raises(ModelMismatch, match="use it alone") as error:
        PairWeights(drawn, linear()).decoder(SPACE)
    assert error.value.code == "decoder.kind"


def test_half_a_pair_is_refused(drawn: DecoderWeights, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    (folder / "decoder-ranking-linear").mkdir(parents=True)
    linear().save(folder / "decoder-ranking-linear")
    with pytest.raises(ModelMismatch, match="decoder-drawn-KIND") as error:
        load_weights("pair", folder)
    assert error.value.code == "model.file"
