"""A released checkpoint becomes a folder that proves what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from mindsight.cli import app
from mindsight.encoders.openclip import OpenClipEncoder
from mindsight.errors import BadRequest, Conflict, ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_generator
from mindsight.generators.unclip import Unclip, load_unclip
from mindsight.generators.unclip.sdxl.convert import convert_unclip
from support.reported import Reported
from support.tiny_open_clip import UNCLIP, make_clip, write_config


@pytest.fixture(scope="module")
def checkpoint(released_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As released: image tower, rests of the text tower, noise levels."""
    tower = {k: v for k, v in make_clip().state_dict().items() if not k.startswith("transformer.") and k != "attn_mask"}
    others = {UNCLIP + name: tensor for name, tensor in tower.items()} | {"denoiser.sigmas": torch.ones(1000)}
    path = tmp_path_factory.mktemp("released") / "unclip6.ckpt"
    torch.save({"state_dict": released_state | others, "global_step": 110000}, path)
    return path


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    config = write_config(checkpoint.parent)
    arguments = ["--dtype", "float32", "--head-dim", "16", "--size-px", "64", "--tower", str(config)]
    out = checkpoint.parent / "converted"
    done = CliRunner().invoke(app, ["convert", "unclip", str(checkpoint), str(out), *arguments])
    assert done.exit_code == 0, done.output
    assert "tokens openclip-tiny-tokens, 16 of 48, encoder" in done.output
    return out


def test_it_loads_as_the_checkpoint_does(folder: Path, unclip: Unclip) -> None:
    loaded = load_unclip(folder)
    assert (loaded.layout, loaded.size_px) == (unclip.layout, 64)
    for ours, theirs in ((loaded.unet, unclip.unet), (loaded.vae, unclip.vae)):
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.state_dict().items())


def test_diffusers_reads_its_networks(folder: Path, unclip: Unclip) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    for network, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        loaded = network.from_pretrained(folder / part).state_dict()
        expected = getattr(unclip, part).state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.items())


def test_the_tower_is_apart_and_names_the_tokens_as_a_pool_does(folder: Path) -> None:
    encoder = OpenClipEncoder.load(folder / "tower.safetensors", write_config(folder.parent))
    described = json.loads((folder / "config.json").read_text())
    assert described == {"size_px": 64, "space": encoder.space.to_json()}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["kind"] == "unclip"
    assert (manifest["source"], manifest["dtype"], len(manifest["source_sha256"])) == ("unclip6.ckpt", "F32", 64)
    assert "denoiser.sigmas" in manifest["left_out"]
    assert not any("visual" in key for key in manifest["left_out"])


def test_half_precision_takes_half_the_room(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    reported = Reported()
    convert_unclip(checkpoint, tmp_path / "half", head_dim=16, tower_model="tiny", report=reported)
    reported.check()
    assert reported.whats == ["reading unclip6.ckpt", "writing half"]
    name = "unet/diffusion_pytorch_model.safetensors"
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / name).values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "tower.safetensors").values()} == {torch.float32}
    assert (tmp_path / "half" / name).stat().st_size < 0.55 * (folder / name).stat().st_size


def test_a_changed_file_is_refused(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    convert_unclip(checkpoint, tmp_path / "own", head_dim=16, tower_model="tiny")
    weights = tmp_path / "own" / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelMismatch, match=r"vae/diffusion_pytorch_model\.safetensors") as error:
        load_unclip(tmp_path / "own")
    assert error.value.code == "checkpoint.tampered"
    with pytest.raises(Conflict):
        convert_unclip(checkpoint, folder, head_dim=16)


def test_without_an_image_tower_it_is_no_generator(released_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(released_state, tmp_path / "bare.pt")
    assert convert_unclip(tmp_path / "bare.pt", tmp_path / "bare", head_dim=16).space is None
    assert load_unclip(tmp_path / "bare").size_px == 768
    with pytest.raises(ModelMismatch) as error:
        load_generator(tmp_path / "bare")
    assert error.value.code == "generator.space"


def test_an_unknown_preset_is_refused(folder: Path) -> None:
    generator = load_generator(folder)
    [(name, space)] = generator.spaces.items()
    blank = {name: torch.zeros(1, *space.shape).numpy()}
    assert generator.evaluations(SampleOptions()) == 11  # eight steps, three of them guided
    assert generator.evaluations(SampleOptions(preset="distilled", steps=2)) == 2
    with pytest.raises(BadRequest, match="expected a preset of reference, fast"):
        generator(blank, 0, SampleOptions(preset="slow"))
