"""Refinement beside diffusers' own classes, and which folders are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.generators.refiner.refiner import Refiner, refinement_plan, require_captions
from mindsight.generators.refiner.text import load_text_encoders
from support.small_refiner import LENGTH, write_refiner

CAPTION = "a dog on a lawn"
EDGE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refiner") / "sdxl"
    folder.mkdir()
    write_refiner(folder)
    return folder


@pytest.fixture(scope="module")
def refiner(folder: Path) -> Refiner:
    return Refiner.load(folder)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (EDGE, EDGE, 3)).astype(np.uint8)


def test_prompts_are_those_of_diffusers_pipeline(folder: Path) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    pipeline = StableDiffusionXLImg2ImgPipeline(
        vae=None,
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=None,
        scheduler=None,
    )
    expected = pipeline.encode_prompt(CAPTION, device="cpu", do_classifier_free_guidance=False)
    tokens_BND, pooled_BC = load_text_encoders(folder)([CAPTION])
    torch.testing.assert_close(tokens_BND, expected[0])
    torch.testing.assert_close(pooled_BC, expected[2])
    assert tokens_BND.shape == (1, LENGTH, 40)


def test_the_steps_are_the_reference_s() -> None:
    table = refinement_plan()
    np.testing.assert_array_equal(table.timesteps, [479, 439, 399, 359, 319, 279, 239, 199, 159, 119, 79, 39])
    assert table.sigmas[0] == pytest.approx(1.509, abs=5e-4)
    assert table.evaluations == 24


def by_diffusers(folder: Path, image_HW3: np.ndarray, seed: int) -> torch.Tensor:
    """(3, H, W) in [0, 1]: the same procedure with diffusers' networks and scheduler."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    text = load_text_encoders(folder)
    away = Refiner.load(folder)._away
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(timesteps=[int(step) for step in refinement_plan().timesteps])
    pixels = torch.from_numpy(image_HW3).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    start = vae.encode(pixels).latent_dist.mean * 0.13025
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
    latent = start + scheduler.sigmas[0] * noise
    cond = text([CAPTION])
    size_ids = torch.tensor([[EDGE, EDGE, 0, 0, 1024, 1024]])
    for step in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latent, step)
        uncond_noise, cond_noise = (
            unet(
                scaled,
                step,
                encoder_hidden_states=prompt.tokens_BND,
                added_cond_kwargs={"text_embeds": prompt.pooled_BC, "time_ids": size_ids},
            ).sample
            for prompt in (away, cond)
        )
        latent = scheduler.step(uncond_noise + 5.0 * (cond_noise - uncond_noise), step, latent).prev_sample
    return (vae.decode(latent / 0.13025).sample[0] / 2 + 0.5).clamp(0.0, 1.0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers' scheduler
@torch.inference_mode()
def test_an_image_is_refined_as_diffusers_does_it_and_a_quarter_of_the_low_level_image_is_blended_in(
    refiner: Refiner, folder: Path, image: np.ndarray
) -> None:
    expected = by_diffusers(folder, image, 5)
    *steps, refined = refiner.refine(image, CAPTION, 5)
    assert steps == [None] * 12
    assert refined is not None
    difference = refined.astype(float) - 255.0 * expected.permute(1, 2, 0).numpy()
    assert np.abs(difference).max() < 1.0
    assert np.abs(refined.astype(int) - image).mean() > 2.0
    black = np.zeros((7, 7, 3), np.uint8)
    *_, blended = refiner.refine(image, CAPTION, 5, black)
    assert blended is not None
    assert np.abs(blended - 0.75 * refined).max() <= 1.0


@pytest.mark.slow
def test_caption_and_seed_decide(refiner: Refiner, image: np.ndarray) -> None:
    one, again, caption, seed = (
        list(refiner.refine(image, *given))[-1] for given in ((CAPTION, 5), (CAPTION, 5), ("a cat", 5), (CAPTION, 6))
    )
    assert one is not None
    np.testing.assert_array_equal(one, again)
    assert (one != caption).any()
    assert (one != seed).any()


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer_2" / "vocab.json").unlink()


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer" / "vocab.json").write_text("{")


def other_text(folder: Path) -> None:
    shutil.rmtree(folder / "text_encoder_2")
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")


def other_width(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps(held | {"projection_class_embeddings_input_dim": 1024}))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (without_tokenizer, "refiner.folder"),
        (damaged_tokenizer, "checkpoint.unreadable"),
        (other_text, "checkpoint.keys"),
        (other_width, "checkpoint.keys"),
    ],
)
def test_another_folder_is_refused(folder: Path, tmp_path: Path, damage: Callable[[Path], None], code: str) -> None:
    shutil.copytree(folder, tmp_path / "sdxl")
    damage(tmp_path / "sdxl")
    with pytest.raises(ModelMismatch) as error:
        Refiner.load(tmp_path / "sdxl")
    assert error.value.code == code
    assert "\n" not in str(error.value)


def test_an_unclip_is_no_base_of_sdxl(refiner: Refiner, folder: Path) -> None:
    from mindsight.generators.unclip import load_unclip
    from mindsight.generators.unclip.sdxl.loading import built
    from support.tiny_unclip import tiny_parts

    with pytest.raises(ModelMismatch, match="tokens of 48 and vector of 64, got some for 40 and 1544") as error:
        Refiner(built(tiny_parts(), torch.float32, "cpu"), load_text_encoders(folder))
    assert error.value.code == "refiner.text"
    assert load_unclip(folder).layout.vector_dim == 1544


def test_a_refiner_needs_captions() -> None:
    require_captions(Path("captions"))
    with pytest.raises(BadRequest, match="MINDSIGHT_CAPTIONS_DIR beside MINDSIGHT_REFINER_DIR"):
        require_captions(None)
