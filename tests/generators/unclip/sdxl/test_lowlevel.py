"""The autoencoder of low-level images, and sampling from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.features import LOWLEVEL
from mindsight.generators.base import SampleOptions
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
from mindsight.generators.unclip.sdxl.lowlevel import load_lowlevel
from support.tiny_unclip import write_lowlevel, write_tiny

WEIGHTS = "diffusion_pytorch_model.safetensors"
SDEDIT = SampleOptions(preset="sdedit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lowlevel") / "vae"
    write_lowlevel(folder)
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> UnclipGenerator:
    folder = tmp_path_factory.mktemp("unclip") / "weights"
    write_tiny(folder)
    write_lowlevel(folder / "lowlevel")
    return UnclipGenerator.load(folder)


@torch.inference_mode()
def test_it_decodes_as_the_reference_does(folder: Path) -> None:
    from diffusers import AutoencoderKL

    latent = torch.randn(2, *LOWLEVEL.shape)
    decoded = AutoencoderKL.from_pretrained(folder).decode(latent / 0.18215).sample
    images = load_lowlevel(folder)(latent)
    torch.testing.assert_close(images, (decoded / 2 + 0.5).clamp(0.0, 1.0))
    assert images.shape == (2, 3, 224, 224)


def test_files_of_2022_have_other_names_and_load_as_well(folder: Path, tmp_path: Path) -> None:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / WEIGHTS)
    old = dict(state)
    for key, tensor in state.items():
        for today, then in names.items():
            if f"attentions.0.{today}." in key:
                del old[key]
                old[key.replace(today, then)] = tensor[..., None, None] if tensor.ndim == 2 else tensor
    assert len(old) == len(state)
    assert old.keys() != state.keys()
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(old, tmp_path / WEIGHTS)
    latent = torch.randn(1, *LOWLEVEL.shape)
    assert torch.equal(load_lowlevel(tmp_path)(latent), load_lowlevel(folder)(latent))


def test_others_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"config\.json"):
        load_lowlevel(tmp_path)
    held = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(held | {"scaling_factor": 0.13025}))
    with pytest.raises(ModelMismatch, match="not SDXL's") as error:
        load_lowlevel(tmp_path)
    assert error.value.code == "vae.scaling"
    (tmp_path / "config.json").write_text(json.dumps(held | {"layers_per_block": 2}))
    save_file(load_file(folder / WEIGHTS), tmp_path / WEIGHTS)
    with pytest.raises(ModelMismatch, match="keys and shapes of Stable Diffusion's autoencoder"):
        load_lowlevel(tmp_path)


def test_an_image_starts_from_the_low_level_latent(generator: UnclipGenerator) -> None:
    rng = np.random.default_rng(2)
    needs = generator.needs(SDEDIT)
    assert needs[LOWLEVEL.name] == LOWLEVEL
    assert LOWLEVEL.name not in generator.needs(SampleOptions())
    features = {name: rng.standard_normal((1, *space.shape)).astype(np.float32) for name, space in needs.items()}
    preview, full = generator.versions(features, 3, SDEDIT)
    np.testing.assert_array_equal(full.images, generator(features, 3, SDEDIT))
    assert preview.lowlevel is None
    assert full.lowlevel is not None
    assert full.lowlevel.shape == (1, 224, 224, 3)
    assert generator.lowlevel is not None
    start = generator.lowlevel(torch.from_numpy(features[LOWLEVEL.name]))
    tokens = torch.from_numpy(features[next(iter(generator.spaces))])
    expected = generator.unclip.sample(tokens, "sdedit", 3, start=start)
    assert np.abs(full.images - 255.0 * expected.permute(0, 2, 3, 1).numpy()).max() <= 0.5
    features[LOWLEVEL.name] = -features[LOWLEVEL.name]
    assert (generator(features, 3, SDEDIT) != full.images).any()


def test_a_start_of_another_shape_or_none_at_all_is_refused(generator: UnclipGenerator, tmp_path: Path) -> None:
    [(name, space)] = generator.spaces.items()
    tokens = {name: np.zeros((1, *space.shape), np.float32)}
    for lacking in ({}, {LOWLEVEL.name: np.zeros((1, 4, 14, 14), np.float32)}):
        with pytest.raises(BadRequest, match="low-level head"):
            generator({**tokens, **lacking}, 0, SDEDIT)
    write_tiny(tmp_path / "weights")
    with pytest.raises(ModelMismatch, match="lowlevel/ of the generator's folder") as error:
        UnclipGenerator.load(tmp_path / "weights").needs(SDEDIT)
    assert error.value.code == "generator.lowlevel"
