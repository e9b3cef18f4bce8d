"""From a beta to candidates and a reconstruction, with real weights of every kind at a small size."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.decoders.base import PriorOptions
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.mindeye2 import fold, load_mindeye2
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.decoding import TrialDecoder
from mindsight.errors import ModelMismatch
from mindsight.features import LOWLEVEL, FeatureSpace
from mindsight.generators.base import SampleOptions
from mindsight.generators.unclip.demo import DemoGenerator, Denoiser, GeneratorConfig
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
from mindsight.posterior.errors import DecodingErrors
from mindsight.retrieval import Calibration, CandidatePool, ReducedIndex, StageTemperature, softmax
from mindsight.subjects.bundle.decoder import Sampling
from mindsight.subjects.bundle.folder import Bundle
from support.families import write_mindeye2
from support.linear_bundle import CHANNELS, N_VOXELS, TOKENS, linear_bundle, ticks
from support.tiny_unclip import write_lowlevel, write_tiny


@pytest.fixture(scope="module")
def linear() -> Bundle:
    return linear_bundle()


@pytest.fixture(scope="module")
def beta(linear: Bundle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=N_VOXELS) * 3 + 100, np.full(N_VOXELS, 100.0), np.full(N_VOXELS, 3.0)


def test_candidates_are_those_of_the_nearest_embeddings(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    retrieval = TrialDecoder(linear, clock=ticks(), n_candidates=12).retrieve(*beta)
    assert isinstance(linear.decoder, LinearDecoder)
    z = (beta[0] - beta[1]) / beta[2]
    predicted = (z @ linear.decoder.weights_VD + linear.decoder.intercept_D).astype(np.float64)
    flat = linear.pool.flat_ND.astype(np.float64)
    cosines = flat @ predicted / np.linalg.norm(flat, axis=1) / np.linalg.norm(predicted)
    order = np.argsort(-cosines)
    assert [c.id for c in retrieval.candidates] == [linear.pool.ids[i] for i in order]
    np.testing.assert_allclose([c.score for c in retrieval.candidates], cosines[order], atol=1e-5)
    assert sum(c.probability for c in retrieval.candidates) == pytest.approx(1.0)
    assert retrieval.confidence == retrieval.candidates[0].probability
    assert (retrieval.null_confidence, retrieval.chance) == (0.2, 1 / 12)
    assert retrieval.candidates[0].label == linear.pool.labels[order[0]]
    assert retrieval.timings_ms == {"decode": 1000.0, "retrieve": 1000.0}


def test_confidence_is_that_of_the_stage_and_of_the_betas_so_far(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    fast = StageTemperature(
        temperature=0.8, exponent=0.5, n_run=16, null_confidence=(0.1, 0.2, 0.3, 0.4, 0.5), log_loss=1.0, n=9
    )
    staged = replace(linear, calibration=replace(linear.calibration, stages={"fast": fast})).save(tmp_path / "staged")
    assert staged.calibration.stages == {"fast": fast}
    decoder = TrialDecoder(staged, clock=ticks(), n_candidates=12)
    pairs = [("c0", "c1")]
    early, late = (decoder.retrieve(*beta, pairs=pairs, stage="fast", n_run=n) for n in (1, 16))
    scores_N = np.array([candidate.score for candidate in early.candidates])
    for found, temperature, null in ((early, 0.8, 0.1), (late, 0.2, 0.5)):
        assert found.confidence == pytest.approx(softmax(scores_N, temperature).max())
        assert found.null_confidence == pytest.approx(null)
    assert early.pairs[0].probability < late.pairs[0].probability
    plain = TrialDecoder(linear, clock=ticks(), n_candidates=12).retrieve(*beta, stage="fast", n_run=3)
    assert decoder.retrieve(*beta, stage="final", n_run=3).confidence == plain.confidence


def test_of_two_that_look_alike_the_nearer_is_chosen_however_low_both_rank(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    pairs = [("c0", "c1"), ("c1", "c0"), ("c10", "c4")]
    few = TrialDecoder(linear, clock=ticks(), n_candidates=1).retrieve(*beta, pairs=pairs)
    scores = {c.id: c.score for c in TrialDecoder(linear, clock=ticks(), n_candidates=12).retrieve(*beta).candidates}
    for (first, second), choice in zip(pairs, few.pairs, strict=True):
        assert (choice.first, choice.second) == (first, second)
        assert choice.chosen == max(first, second, key=scores.__getitem__)
        assert choice.margin == pytest.approx(abs(scores[first] - scores[second]), abs=1e-6)
        odds = np.exp(choice.margin / linear.calibration.temperature)
        assert choice.probability == pytest.approx(odds / (1 + odds))
    with pytest.raises(ModelMismatch, match="absent"):
        TrialDecoder(linear, clock=ticks()).retrieve(*beta, pairs=[("c0", "absent")])


def test_a_bundle_with_an_index_searches_by_it(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    pool = CandidatePool(
        tuple(f"c{i}" for i in range(700)), rng.normal(size=(700, TOKENS, CHANNELS)).astype(np.float16)
    )
    index = ReducedIndex.build(pool, rng, 16)
    exact, reduced = (
        TrialDecoder(replace(linear, pool=pool, index=with_index).save(tmp_path / name), clock=ticks())
        for name, with_index in (("exact", None), ("reduced", index))
    )
    pairs = [("c3", "c4"), ("c5", "c6")]
    whole, short = exact.retrieve(*beta, pairs=pairs), reduced.retrieve(*beta, pairs=pairs)
    assert short.candidates[0].id == whole.candidates[0].id
    assert short.candidates[0].score == whole.candidates[0].score
    assert [(p.chosen, p.margin) for p in short.pairs] == [(p.chosen, p.margin) for p in whole.pairs]
    assert isinstance(reduced.bundle.index, ReducedIndex)
    assert exact.bundle.index is None
    assert reduced.bundle.digest != exact.bundle.digest


def test_embeddings_are_centred_where_the_calibration_is(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    assert isinstance(linear.decoder, LinearDecoder)
    centred = replace(linear, calibration=Calibration(0.1, 0.2, 1.0, 300, "projection", centred=True))
    found = TrialDecoder(centred, clock=ticks(), n_candidates=12).retrieve(*beta)
    query = linear.decoder.predict(((beta[0] - beta[1]) / beta[2])[None])[0] - linear.decoder.origin
    seen = (linear.pool.embeddings - linear.decoder.origin).reshape(12, -1).astype(np.float64)
    along = seen @ query.ravel() / np.linalg.norm(seen, axis=1)
    assert found.candidates[0].id == linear.pool.ids[int(np.argmax(along))]
    assert found.margin == pytest.approx(np.sort(along)[-1] - np.sort(along)[-2], rel=1e-4)


def test_a_voxel_that_never_varied_is_ignored(linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    decoder = TrialDecoder(linear, clock=ticks())
    values, mean, std = (array.copy() for array in beta)
    std[7] = 0.0
    values[7] = mean[7]
    unvaried = decoder.retrieve(values, mean, std).candidates
    values[7] = 1e6
    assert decoder.retrieve(values, mean, std).candidates == unvaried


def test_betas_of_another_mask_are_refused(linear: Bundle) -> None:
    with pytest.raises(ModelMismatch) as error:
        TrialDecoder(linear, clock=ticks()).retrieve(np.zeros(39), np.zeros(39), np.ones(39))
    assert error.value.code == "decoder.voxel_count"


def test_without_a_generator_there_is_no_reconstruction(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    decoder = TrialDecoder(linear, clock=ticks())
    with pytest.raises(ModelMismatch) as error:
        decoder.reconstruct(decoder.retrieve(*beta), seed=0)
    assert error.value.code == "generator.missing"


def make_generator() -> DemoGenerator:
    torch.manual_seed(0)
    return DemoGenerator(Denoiser(GeneratorConfig(image_size=32, n_tokens=TOKENS, token_dim=CHANNELS, widths=(16, 32))))


@pytest.mark.parametrize("prior", [False, True])
def test_mindeye2_gives_candidates_and_reconstructions(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path, prior: bool
) -> None:
    write_mindeye2(tmp_path / "weights.safetensors", prior)
    made = replace(
        linear,
        decoder=MindEye2Weights(tmp_path / "weights.safetensors"),
        sampling=Sampling(prior=PriorOptions(steps=5, draws=1), generator=SampleOptions(steps=3)),
    )
    bundle = made.save(tmp_path / "bundle")
    decoder = TrialDecoder(bundle, clock=ticks(), generator=make_generator())
    retrieval = decoder.retrieve(*beta)
    assert len(retrieval.candidates) == 10
    first, again, other = (decoder.reconstruct(retrieval, seed) for seed in (3, 3, 4))
    assert first.pixels.shape == (32, 32, 3)
    assert first.pixels.dtype == np.uint8
    assert first.steps == (4 + 3 if prior else 3)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).any()


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> UnclipGenerator:
    """An unCLIP that can start from low-level latents."""
    folder = tmp_path_factory.mktemp("unclip") / "weights"
    write_tiny(folder)
    write_lowlevel(folder / "lowlevel")
    return UnclipGenerator.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["sdedit", "fast"])
def test_the_low_level_image_of_repeats_is_the_mean_of_their_latents(
    beta: tuple[np.ndarray, np.ndarray, np.ndarray], starting: UnclipGenerator, tmp_path: Path, preset: str
) -> None:
    """Decoded to start from it, or because it is asked for."""
    shape = (16, 48)
    write_mindeye2(tmp_path / "weights.safetensors", prior=True, lowlevel=True, shape=shape)
    made = replace(
        linear_bundle(shape),
        decoder=MindEye2Weights(tmp_path / "weights.safetensors"),
        sampling=Sampling(prior=PriorOptions(steps=3, draws=1), generator=SampleOptions(preset=preset, steps=2)),
    )
    bundle = made.save(tmp_path / "bundle")
    betas = [np.stack([one, two]) for one, two in zip(beta, (beta[0][::-1], *beta[1:]), strict=True)]
    decoder = TrialDecoder(bundle, clock=ticks(), generator=starting, lowlevel=preset == "fast")
    retrieval = decoder.retrieve(*betas)
    folded = fold(load_mindeye2(tmp_path / "weights.safetensors"))
    voxels = torch.from_numpy(((betas[0] - betas[1]) / betas[2]).astype(np.float32))
    expected = folded.tokens_of_repeats(voxels).lowlevel
    assert expected is not None
    np.testing.assert_allclose(retrieval.condition[LOWLEVEL.name], expected, rtol=1e-3, atol=1e-4)
    preview, image = decoder.versions(retrieval, 3)
    assert preview.version == "preview"
    assert image.lowlevel is not None
    assert starting.lowlevel is not None
    blurred = starting.lowlevel(expected)[0].permute(1, 2, 0).numpy()
    assert np.abs(image.lowlevel - 255.0 * blurred).max() <= 1.5
    np.testing.assert_array_equal(image.pixels, decoder.reconstruct(retrieval, 3).pixels)


@pytest.mark.parametrize(("with_head", "with_vae"), [(True, False), (False, True)])
def test_without_a_low_level_image_there_is_none_to_start_from(
    beta: tuple[np.ndarray, np.ndarray, np.ndarray],
    starting: UnclipGenerator,
    tmp_path: Path,
    with_head: bool,
    with_vae: bool,
) -> None:
    shape = (16, 48)
    write_mindeye2(tmp_path / "weights.safetensors", prior=False, lowlevel=with_head, shape=shape)
    made = replace(
        linear_bundle(shape),
        decoder=MindEye2Weights(tmp_path / "weights.safetensors"),
        sampling=Sampling(generator=SampleOptions(preset="sdedit")),
    )
    generator = UnclipGenerator(
        starting.unclip, next(iter(starting.spaces.values())), "", starting.lowlevel if with_vae else None
    )
    decoder = TrialDecoder(made.save(tmp_path / "bundle"), clock=ticks(), generator=generator)
    assert decoder.mismatch is not None
    assert ("stable-diffusion-latents" if with_vae else "lowlevel/ of the generator's folder") in decoder.mismatch
    assert not decoder.retrieve(*beta).condition


def test_a_generator_for_another_encoder_leaves_the_ranking(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    space = FeatureSpace("other-tokens", (TOKENS, CHANNELS), "none", "f" * 64)
    other = replace(linear, pool=replace(linear.pool, recorded_space=space))
    decoder = TrialDecoder(other, clock=ticks(), generator=make_generator())
    assert decoder.mismatch is not None
    assert "other-tokens" in decoder.mismatch
    retrieval = decoder.retrieve(*beta)
    assert retrieval.candidates == TrialDecoder(linear, clock=ticks()).retrieve(*beta).candidates
    assert not retrieval.condition
    with pytest.raises(ModelMismatch, match="same encoder") as error:
        decoder.reconstruct(retrieval, seed=0)
    assert error.value.code == "generator.missing"


def test_a_linear_decoder_into_tokens_gives_reconstructions(
    linear: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    decoder = TrialDecoder(linear, clock=ticks(), generator=make_generator())
    picture = decoder.reconstruct(decoder.retrieve(*beta), seed=0)
    assert picture.pixels.shape == (32, 32, 3)
    assert picture.steps == 4


@pytest.fixture(scope="module")
def guided(linear: Bundle) -> Bundle:
    """Decoding errors of 0.3 standard deviations, and even odds that a candidate is seen."""
    rng = np.random.default_rng(5)
    seen = rng.normal(size=(200, TOKENS, CHANNELS))
    errors = DecodingErrors.learn({"final": seen + 0.3 * rng.normal(size=seen.shape)}, seen, np.arange(len(seen)))
    return replace(linear, errors=errors, sampling=Sampling(in_pool_prior=0.5))


def test_the_ranking_guides_where_candidates_explain_what_was_decoded(linear: Bundle, guided: Bundle) -> None:
    assert isinstance(linear.decoder, LinearDecoder)
    weights_DV = linear.decoder.weights_VD.T.astype(np.float64)
    own = linear.pool.embeddings[3]
    like_it = 0.95 * np.linalg.lstsq(weights_DV, own.ravel() - linear.decoder.intercept_D, rcond=None)[0]
    unlike_any = np.random.default_rng(7).normal(size=N_VOXELS)
    alone, both = (TrialDecoder(bundle, clock=ticks(), generator=make_generator()) for bundle in (linear, guided))
    found = []
    for z in (like_it, unlike_any):
        retrieval = both.retrieve(z, np.zeros(N_VOXELS), np.ones(N_VOXELS))
        plain, mixed = (decoder.reconstruct(retrieval, seed=0) for decoder in (alone, both))
        assert plain.from_ranking is None
        assert mixed.from_ranking is not None
        found.append(mixed.from_ranking)
        (tokens,), (decoded,) = mixed.features.values(), plain.features.values()
        if z is like_it:
            np.testing.assert_allclose(tokens[0], own, atol=1e-3)
            assert np.abs(decoded[0] - own).max() > 1e-2
        else:
            np.testing.assert_allclose(tokens, decoded, atol=1e-3)
        uncalibrated = both.reconstruct(retrieval, seed=0, stage="fast")
        assert uncalibrated.from_ranking is None
        np.testing.assert_array_equal(uncalibrated.pixels, plain.pixels)
    assert found[0] > 0.999
    assert found[1] < 0.001


def test_a_guided_bundle_is_saved_with_its_errors_and_refused_without(
    linear: Bundle, guided: Bundle, tmp_path: Path
) -> None:
    saved = guided.save(tmp_path / "bundle")
    assert saved.errors is not None
    assert saved.sampling.in_pool_prior == 0.5
    with pytest.raises(ModelMismatch, match="decoding errors") as error:
        replace(linear, sampling=guided.sampling).save(tmp_path / "without")
    assert error.value.code == "bundle.invalid"
    narrow = CandidatePool(("a", "b"), np.eye(2, dtype=np.float32))
    decoder = LinearDecoder.fit(np.random.default_rng(0).normal(size=(9, N_VOXELS)), narrow.embeddings[[0, 1, 1] * 3])
    with pytest.raises(ModelMismatch, match="64 numbers"):
        replace(guided, pool=narrow, decoder=decoder).save(tmp_path / "narrow")


def test_weights_for_other_voxels_are_refused(linear: Bundle, tmp_path: Path) -> None:
    write_mindeye2(tmp_path / "weights.safetensors", prior=False)
    mask = linear.space.mask_XYZ.copy()
    mask.flat[N_VOXELS] = True
    wider = replace(
        linear,
        decoder=MindEye2Weights(tmp_path / "weights.safetensors"),
        space=replace(linear.space, mask_XYZ=mask),
    )
    with pytest.raises(ModelMismatch, match="41 voxels"):
        TrialDecoder(wider, clock=ticks())


def test_a_linear_bundle_needs_no_torch(linear: Bundle, tmp_path: Path) -> None:
    linear.save(tmp_path / "bundle")
    code = (
        "import sys, numpy as np; from pathlib import Path; from mindsight.subjects.bundle.folder import Bundle;"
        "from mindsight.decoding import TrialDecoder;"
        f"d = TrialDecoder(Bundle.load(Path({str(tmp_path / 'bundle')!r})), clock=lambda: 0.0);"
        f"d.retrieve(np.ones({N_VOXELS}), np.zeros({N_VOXELS}), np.ones({N_VOXELS}));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
