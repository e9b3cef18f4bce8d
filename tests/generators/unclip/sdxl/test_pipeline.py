"""Sampling: what is drawn, what is refused, and that all of it stays on one device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsight.errors import BadRequest
from mindsight.generators.engines.recorded import RecordedLoop
from mindsight.generators.sampling.presets import PRESETS
from mindsight.generators.unclip import Unclip, load_unclip, plan
from mindsight.generators.unclip.sdxl.conditioner import draw_noise
from mindsight.generators.unclip.sdxl.vae import encode
from support.recorded_operations import record
from support.tiny_unclip import write_tiny


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Unclip:
    folder = tmp_path_factory.mktemp("unclip") / "weights"
    write_tiny(folder)
    return load_unclip(folder)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(6))


def test_every_preset_draws_images(small: Unclip, tokens: Tensor) -> None:
    start = torch.rand(2, 3, 20, 20)
    for name, preset in PRESETS.items():
        images = small.sample(tokens, name, steps=3, start=start if preset.needs_start else None)
        assert images.shape == (2, 3, 32, 32)
        assert 0.0 <= images.min() < images.max() <= 1.0
        assert (images[0] - images[1]).abs().max() > 1e-3


def test_all_presets_start_from_the_noise_of_the_seed(small: Unclip, tokens: Tensor) -> None:
    """What changes between a trial's images is the brain, not the noise."""
    noises = {name: small.inputs(plan(name), tokens, 7).noise_BCHW for name in PRESETS}
    assert all(torch.equal(noise, noises["fast"]) for noise in noises.values())
    assert not torch.equal(small.inputs(plan("fast"), tokens, 8).noise_BCHW, noises["fast"])
    full_size = draw_noise(torch.Generator().manual_seed(7), (4, 96, 96), 14.6)
    assert full_size.std() == pytest.approx(1.0, abs=0.02)


def test_an_image_to_start_from_is_encoded_so_that_it_would_be_shown_as_it_is(small: Unclip, tokens: Tensor) -> None:
    grey = torch.full((2, 3, 20, 20), 0.6)  # 0.5 of the decoder's range, which 0.8 and 0.2 make of it
    inputs = small.inputs(plan("sdedit"), tokens, start=grey)
    assert inputs.start_BCHW is not None
    torch.testing.assert_close(inputs.start_BCHW, encode(small.vae, torch.full((2, 3, 32, 32), 0.5)))


def test_another_denoiser_takes_the_place_of_the_eager_one(small: Unclip, tokens: Tensor) -> None:
    eager, project, seen, projected = small.denoiser, small.keys_values, [], []

    def engine(latent: Tensor, timestep: Tensor, keys_values: Tensor, vector: Tensor) -> Tensor:
        seen.append((len(latent), float(timestep[0]), timestep.dtype, vector.shape))
        return eager(latent, timestep, keys_values, vector)

    def project_too(tokens: Tensor) -> Tensor:
        projected.append(len(tokens))
        return project(tokens)

    expected = small.sample(tokens, "fast")
    small.use(project_too, engine, small.decoder)
    try:
        assert torch.equal(small.sample(tokens, "fast"), expected)
    finally:
        small.use(*small.modules)
    assert projected == [4]  # once, with the unconditional tokens
    assert [n for n, *_ in seen] == [4, 4, 4, 2, 2, 2, 2, 2]  # guided in the first three steps
    assert seen[0] == (4, pytest.approx(999.0), torch.float32, (4, 64))


def test_a_whole_loop_is_made_once_for_each_table(small: Unclip, tokens: Tensor) -> None:
    """What is recorded must depend on the tensors that it is given and on nothing else."""
    made = []

    def record(loop: Callable[..., Tensor]) -> Callable[..., Tensor]:
        made.append(loop)
        return loop

    expected = [small.sample(tokens, "fast", seed) for seed in (1, 2)]
    small.use(*small.modules, record)
    try:
        images = [small.sample(tokens, "fast", seed) for seed in (1, 2)]
        small.sample(tokens, "distilled")
    finally:
        small.use(*small.modules)
    assert all(torch.equal(*pair) for pair in zip(images, expected, strict=True))
    assert len(made) == 2
    inputs = [tensor for tensor in small.inputs(plan("fast"), tokens, 2) if tensor is not None]
    assert torch.equal(made[0](*inputs), expected[1])


@pytest.mark.parametrize("whole", [None, lambda loop: lambda *tensors: loop(*tensors)])
def test_a_preview_has_a_decoder_of_its_own(small: Unclip, tokens: Tensor, whole: Any) -> None:
    """Call by call, and where an engine runs a whole loop at once."""
    table = plan("fast")
    inputs = small.inputs(table, tokens, 3)
    decoder = small.decoder
    small.preview = lambda latent: -decoder(latent)
    small.use(small.keys_values, small.denoiser, decoder, whole)
    try:
        preview, image = small.versions(table, inputs)
    finally:
        small.preview = None
        small.use(small.keys_values, small.denoiser, decoder)
    [latent] = small.estimates(table, inputs, after=(2,))
    torch.testing.assert_close(preview, (0.2 - 0.8 * decoder(latent)).clamp(0.0, 1.0))
    torch.testing.assert_close(image, small.sample(tokens, "fast", 3))


def test_a_recorded_loop_draws_what_a_called_one_does(small: Unclip, tokens: Tensor) -> None:
    """As a CUDA graph would: keys and values, guided and unguided steps and the decoder, without Python between."""
    expected = [small.sample(tokens, "fast", seed, steps=4) for seed in (1, 2)]
    small.use(*small.modules, lambda loop: RecordedLoop(loop, record))
    try:
        images = [small.sample(tokens, "fast", seed, steps=4) for seed in (1, 2)]
    finally:
        small.use(*small.modules)
    assert all(torch.equal(*pair) for pair in zip(images, expected, strict=True))
    assert not torch.equal(*images)


def test_estimates_approach_the_result(small: Unclip, tokens: Tensor) -> None:
    table = plan("fast")
    inputs = small.inputs(table, tokens)
    result = small.latents(table, inputs)
    errors = [float((latent - result).square().mean()) for latent in small.estimates(table, inputs, after=(1, 4, 7, 8))]
    assert errors[0] > errors[1] > errors[2] > errors[3] == 0.0


@pytest.mark.parametrize("shape", [(2, 16, 47), (16, 48)])
def test_tokens_of_another_shape_are_refused(small: Unclip, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest, match=r"\(B, N, 48\)"):
        small.sample(torch.zeros(shape))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": torch.zeros(1, 4, 4, 4)}, r"noise of shape \(2, 4, any, any\), got \(1, 4, 4, 4\)"),
        ({"uncond": torch.zeros(2, 16, 47)}, r"uncond of shape \(2, 16, 48\), got \(2, 16, 47\)"),
        ({"vector": torch.zeros(64)}, r"vector of shape \(2, 64\), got \(64,\)"),
    ],
)
def test_inputs_of_another_shape_are_refused(
    small: Unclip, tokens: Tensor, given: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        small.sample(tokens, **given)


@pytest.mark.parametrize(("preset", "start"), [("sdedit", None), ("fast", torch.zeros(2, 3, 8, 8))])
def test_a_start_goes_with_the_preset_that_needs_it(
    small: Unclip, tokens: Tensor, preset: str, start: Tensor | None
) -> None:
    with pytest.raises(BadRequest, match=f"got {preset} with"):
        small.sample(tokens, preset, start=start)


@pytest.mark.slow  # `make test` walks from voxels to pixels in test_published_size.py
def test_the_published_size_stays_on_one_device(published: dict[str, Tensor]) -> None:
    """On a device without data: what is elsewhere, of another dtype, or copied to the host in between, raises."""
    unclip = load_unclip(published, device="meta", dtype=torch.bfloat16)
    tokens = torch.zeros(1, 256, 1664)
    for preset, start in (("fast", None), ("sdedit", torch.zeros(1, 3, 224, 224))):
        images = unclip.sample(tokens, preset, start=start, steps=1)
        assert (images.shape, images.device.type, images.dtype) == ((1, 3, 768, 768), "meta", torch.float32)
    assert unclip.inputs(plan("fast"), tokens).vector_BC.dtype == torch.bfloat16


def test_half_precision_is_near_full(tokens: Tensor, small: Unclip, tmp_path: Path) -> None:
    write_tiny(tmp_path / "weights")
    half = load_unclip(tmp_path / "weights", dtype=torch.bfloat16)
    images = half.sample(tokens, "distilled")
    assert images.dtype == torch.float32
    assert 0.0 < (images - small.sample(tokens, "distilled")).abs().max() < 0.1
