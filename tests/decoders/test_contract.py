"""What every kind of decoder in the registry promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.decoders.base import Decoder, DecoderWeights, PriorOptions
from mindsight.decoders.registry import KINDS, load_weights
from mindsight.errors import ModelMismatch
from mindsight.features import FeatureSpace
from mindsight.weights.device import Placement
from support.families import DECODERS, N_VOXELS, SPACE
from support.meta_card import MetaCard

BETAS_BV = np.random.default_rng(1).normal(size=(3, N_VOXELS)).astype(np.float32)
FEW = PriorOptions(steps=4, draws=2)
CARD = Placement("meta", "float16")


@pytest.fixture(scope="module", params=sorted(KINDS))
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DecoderWeights:
    """As they come back from a bundle's folder."""
    folder = tmp_path_factory.mktemp("decoder")
    made = DECODERS[request.param](folder)
    (folder / "bundle").mkdir()
    made.save(folder / "bundle")
    assert all(path.name.startswith("decoder") for path in (folder / "bundle").iterdir())
    return load_weights(request.param, folder / "bundle")


@pytest.fixture(scope="module")
def decoder(weights: DecoderWeights) -> Decoder:
    return weights.decoder(SPACE)


def test_every_kind_has_an_example() -> None:
    assert set(DECODERS) == set(KINDS)


def test_weights_know_their_kind_and_fit_what_they_make(weights: DecoderWeights, decoder: Decoder) -> None:
    assert weights.kind in KINDS
    assert weights.describe()
    assert decoder.n_voxels == N_VOXELS
    assert weights.n_voxels in (None, decoder.n_voxels)
    assert weights.shape in (None, decoder.spaces[decoder.query].shape)


def test_a_saved_decoder_decodes_to_the_same_bits(weights: DecoderWeights, decoder: Decoder, tmp_path: Path) -> None:
    weights.save(tmp_path)
    again = load_weights(weights.kind, tmp_path).decoder(SPACE)
    for name, found in again(BETAS_BV).items():
        np.testing.assert_array_equal(found, decoder(BETAS_BV)[name])


def test_features_are_those_of_the_named_spaces(decoder: Decoder) -> None:
    features = decoder(BETAS_BV)
    assert set(features) == set(decoder.spaces)
    assert decoder.spaces[decoder.query] == SPACE
    for name, space in decoder.spaces.items():
        assert space.name == name
        assert features[name].shape == (3, *space.shape)
        assert features[name].dtype == np.float32
        assert np.isfinite(features[name]).all()


def test_one_trial_decodes_as_it_does_among_others(decoder: Decoder) -> None:
    together = decoder(BETAS_BV)
    for name, alone in decoder(BETAS_BV[1:2]).items():
        np.testing.assert_allclose(alone[0], together[name][1], rtol=1e-4, atol=1e-5)


def test_the_origin_is_the_query_of_an_average_beta(decoder: Decoder) -> None:
    if decoder.origin is not None:
        average = decoder(np.zeros((1, N_VOXELS), np.float32))[decoder.query][0]
        np.testing.assert_allclose(decoder.origin, average, atol=1e-6)


def test_the_seed_decides_the_refined_features(decoder: Decoder) -> None:
    condition = {name: decoder(BETAS_BV[:1])[name] for name in decoder.condition}
    assert condition
    first, again = (decoder.refine(condition, 5, FEW) for _ in range(2))
    assert set(first.features) == set(decoder.refined)
    assert first.steps >= 0
    for name, space in decoder.refined.items():
        assert first.features[name].shape == (1, *space.shape)
        np.testing.assert_array_equal(first.features[name], again.features[name])
        other = decoder.refine(condition, 6, FEW).features[name]
        assert bool((other != first.features[name]).any()) == (first.steps > 0)


def test_what_was_expected_changes_nothing(weights: DecoderWeights, decoder: Decoder) -> None:
    condition = {name: decoder(BETAS_BV[:1])[name] for name in decoder.condition}
    fresh = weights.decoder(SPACE)
    fresh.expect(5, FEW)
    for name, found in fresh.refine(condition, 5, FEW).features.items():
        np.testing.assert_array_equal(found, decoder.refine(condition, 5, FEW).features[name])


def test_more_draws_and_steps_are_what_the_options_say(decoder: Decoder) -> None:
    condition = {name: decoder(BETAS_BV[:1])[name] for name in decoder.condition}
    few, many = (decoder.refine(condition, 5, PriorOptions(steps=n, draws=1)) for n in (4, 6))
    assert (many.steps > few.steps) == (few.steps > 0)


def test_features_stay_where_they_are_computed(weights: DecoderWeights) -> None:
    """NumPy of a decoder that computes on the host, tensors of one that computes on a card; both in the same shapes."""
    decoder = weights.decoder(SPACE, CARD)
    with MetaCard() as card:
        features = decoder(BETAS_BV)
        condition = {name: features[name][:1] for name in decoder.condition}
        refined = decoder.refine(condition, 5, FEW).features
    for given, spaces, n in ((features, decoder.spaces, 3), (refined, decoder.refined, 1)):
        assert {name: tuple(feature.shape) for name, feature in given.items()} == {
            name: (n, *space.shape) for name, space in spaces.items()
        }
        on_host = all(isinstance(feature, np.ndarray) for feature in given.values())
        assert on_host or {(feature.device.type, feature.dtype) for feature in given.values()} == {
            ("meta", torch.float16)
        }
    assert card.strays == []
    assert card.dtypes() <= {torch.float16}


@pytest.mark.parametrize("n", [N_VOXELS - 1, N_VOXELS + 1])
def test_betas_of_another_mask_are_refused(decoder: Decoder, n: int) -> None:
    with pytest.raises(ModelMismatch) as error:
        decoder(np.zeros((1, n), np.float32))
    assert error.value.code == "decoder.voxel_count"


def test_no_tokens_no_reconstruction() -> None:
    """Class labels are ranked, and no image is generated from them."""
    rng = np.random.default_rng(0)
    from mindsight.decoders.linear.decoder import LinearDecoder

    fitted = LinearDecoder.fit(rng.normal(size=(50, N_VOXELS)), rng.normal(size=(50, 3)))
    decoder = fitted.decoder(FeatureSpace("labels", (3,)))
    assert (decoder.condition, dict(decoder.refined)) == ((), {})


def test_a_kind_that_is_not_known_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="linear, mindeye2") as error:
        load_weights("neuropictor", tmp_path)
    assert error.value.code == "decoder.kind"
