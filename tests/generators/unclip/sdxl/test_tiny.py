"""The decoder of previews: same latents, same range of pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip import load_unclip
from mindsight.generators.unclip.sdxl.tiny import load_tiny
from support.tiny_unclip import write_tiny

SMALL = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderTiny

    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("taesd")
    AutoencoderTiny(**SMALL).save_pretrained(folder)
    return folder


def test_it_decodes_as_diffusers_does(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    latent = torch.randn(2, 4, 4, 4)
    decoder = load_tiny(folder)
    with torch.inference_mode():
        expected = AutoencoderTiny.from_pretrained(folder).decode(latent).sample
        assert torch.equal(decoder(latent), expected)
    assert expected.shape == (2, 3, 32, 32)


def test_it_takes_the_place_of_the_full_one(folder: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "unclip")
    unclip = load_unclip(tmp_path / "unclip")
    full = unclip.sample(torch.randn(1, 16, 48), "distilled")
    unclip.use(unclip.keys_values, unclip.denoiser, load_tiny(folder))
    preview = unclip.sample(torch.randn(1, 16, 48), "distilled")
    assert preview.shape == full.shape == (1, 3, 32, 32)
    assert (preview - full).abs().max() > 0.01


def test_the_safetensors_file_of_the_published_size_is_enough(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    AutoencoderTiny().save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    assert load_tiny(tmp_path / WEIGHTS)(torch.zeros(1, 4, 2, 2)).shape == (1, 3, 16, 16)


def test_others_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="keys and shapes of a tiny autoencoder"):
        load_tiny(folder / WEIGHTS)  # of the published size it is not
    with pytest.raises(ModelMismatch, match=r"config\.json"):
        load_tiny(tmp_path)
    save_file(load_file(folder / WEIGHTS), tmp_path / WEIGHTS)
    held = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(held | {"scaling_factor": 0.18215}))
    with pytest.raises(ModelMismatch, match="TAESDXL"):
        load_tiny(tmp_path)
