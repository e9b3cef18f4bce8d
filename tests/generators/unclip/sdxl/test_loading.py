"""Which weights load, from what, and how the others are refused."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip import Unclip, load_unclip
from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from support.tiny_unclip import UNET, VAE, tiny_parts

TOKENS, VECTOR = torch.randn(1, 6, 24), torch.randn(1, 64)


def same(one: Unclip, other: Unclip) -> bool:
    pairs = [(one.unet.state_dict(), other.unet.state_dict()), (one.vae.state_dict(), other.vae.state_dict())]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


def test_the_released_checkpoint_fills_its_networks(published: dict[str, Tensor]) -> None:
    others = {"denoiser.sigmas": torch.empty(1000), "conditioner.embedders.0.model.logit_scale": torch.empty(())}
    unclip = load_unclip(published | others, device="meta", dtype=torch.bfloat16)
    assert unclip.layout == UnetLayout()
    assert sum(weight.numel() for weight in unclip.unet.parameters()) == 2_501_272_324
    assert sum(weight.numel() for weight in unclip.vae.parameters()) == 83_653_863
    for network in (unclip.unet, unclip.vae):  # anywhere but on the processor
        convolutions = [weight for weight in network.parameters() if weight.ndim == 4]
        assert all(one.is_contiguous(memory_format=torch.channels_last) for one in convolutions)


def test_the_base_of_sdxl_fills_the_same_networks(published: dict[str, Tensor]) -> None:
    """Text tokens of 2,048 and a vector of 2,816; its text towers are left out."""
    base = dict(published)
    for key, tensor in published.items():
        if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            base[key] = torch.empty(len(tensor), 2048, device="meta")
    base["model.diffusion_model.label_emb.0.0.weight"] = torch.empty(1280, 2816, device="meta")
    base["conditioner.embedders.1.model.token_embedding.weight"] = torch.empty(49408, 1280, device="meta")
    unclip = load_unclip(base, device="meta")
    assert unclip.layout == UnetLayout(token_dim=2048, vector_dim=2816)
    assert sum(weight.numel() for weight in unclip.unet.parameters()) == 2_567_463_684


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_file_gives_what_its_state_dict_gives(
    released_state: dict[str, Tensor], unclip: Unclip, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"unclip{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": released_state, "callbacks": {"best": Fraction(1, 3)}, "global_step": 110000}, path)
    else:
        save_file(released_state, path)
    assert same(load_unclip(path, head_dim=16), unclip)


def write_diffusers(folder: Path, **changes: Any) -> Path:
    """SDXL's base as diffusers publishes it: text and time in ``add_embedding``, in half precision, in two parts."""
    parts = tiny_parts()
    for part, state, config in (
        ("unet", parts.unet, {"_class_name": "UNet2DConditionModel", "sample_size": 8, **UNET.to_diffusers()}),
        ("vae", parts.vae, {"_class_name": "AutoencoderKL", "sample_size": 64, **VAE.to_diffusers()}),
    ):
        (folder / part).mkdir(parents=True)
        if part == "unet":
            config |= {"class_embed_type": None, "addition_embed_type": "text_time"} | changes
        (folder / part / "config.json").write_text(json.dumps(config))
        named = {key.replace("class_embedding.", "add_embedding."): tensor.half() for key, tensor in state.items()}
        halves = [dict(list(named.items())[place::2]) for place in (0, 1)]
        if part == "unet":
            for place, half in enumerate(halves, 1):
                save_file(half, folder / part / f"diffusion_pytorch_model-0000{place}-of-00002.safetensors")
        else:
            save_file(named, folder / part / "diffusion_pytorch_model.fp16.safetensors")
    return folder


def test_a_folder_of_diffusers_loads(tmp_path: Path) -> None:
    loaded = load_unclip(write_diffusers(tmp_path / "base"))
    assert (loaded.layout, loaded.size_px) == (UNET, 64)
    key = "class_embedding.linear_1.weight"
    assert torch.equal(loaded.unet.state_dict()[key], tiny_parts().unet[key].half().float())


def test_projection_and_text_time_are_one_network() -> None:
    """What lets SDXL's base and the unCLIP be one class."""
    from diffusers import UNet2DConditionModel

    parts = tiny_parts()
    form = {"class_embed_type": None, "addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    peer = UNet2DConditionModel(**(UNET.to_diffusers() | form))
    peer.load_state_dict({k.replace("class_embedding.", "add_embedding."): v for k, v in parts.unet.items()})
    ours = build_unet(UNET)
    ours.load_state_dict(parts.unet)
    latent, tokens, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 48), torch.randn(1, 16)
    time_ids = torch.tensor([[768.0, 768.0, 0.0, 0.0, 512.0, 512.0]])
    added = {"text_embeds": text, "time_ids": time_ids}
    vector = torch.cat([text, peer.add_time_proj(time_ids.flatten()).view(1, -1)], dim=1)
    with torch.inference_mode():
        expected = peer(latent, 500, tokens, added_cond_kwargs=added).sample
        assert torch.equal(ours(latent, 500, tokens, class_labels=vector).sample, expected)


YAML = """
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    scale_factor: 0.13025
    network_config:
      params: {adm_in_channels: 64, in_channels: 4, model_channels: 32, channel_mult: [1, 2, 4], num_res_blocks: 2,
        num_head_channels: 16, context_dim: 24, transformer_depth: [1, 1, 1]}
"""


def test_the_original_yaml_beside_a_checkpoint_states_the_head_dim(
    released_state: dict[str, Tensor], tmp_path: Path
) -> None:
    checkpoint, beside = tmp_path / "unclip6_epoch0.safetensors", tmp_path / "unclip6.yaml"
    save_file(released_state, checkpoint)
    assert load_unclip(checkpoint, head_dim=32).layout.head_dim == 32
    (tmp_path / "other.yaml").write_text("not: of this checkpoint")
    beside.write_text(YAML)
    assert load_unclip(checkpoint).layout.head_dim == 16
    for changed, message in (
        (YAML.replace("context_dim: 24", "context_dim: 1664"), "token_dim 1664 in it and 24 in the weights"),
        (YAML.replace("0.13025", "0.18215"), "scale of latents"),
        (YAML.replace("num_head_channels", "num_heads"), "no num_head_channels"),
        ("- 1", r"unclip6\.yaml"),
        ("{", r"unclip6\.yaml"),
    ):
        beside.write_text(changed)
        with pytest.raises(ModelMismatch, match=message) as error:
            load_unclip(checkpoint)
        assert error.value.code == "checkpoint.config"


def broken(state: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    named = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
    for name, tensor in changes.items():
        part, _, key = name.partition("__")
        full = named.get(part, part) + key
        state = {k: v for k, v in state.items() if k != full} | ({} if tensor is None else {full: tensor})
    return state


WRONG: list[tuple[dict[str, Tensor | None], str]] = [
    ({"unet__label_emb.0.0.weight": None}, r"an SDXL U-Net, got 1 missing \(label_emb.0.0.weight\)"),
    ({"unet__out.2.bias": None}, r"1 missing \(conv_out.bias\)"),
    ({"unet__out.3.bias": torch.zeros(4)}, r"1 unexpected \(out.3.bias\)"),
    ({"unet__out.2.bias": torch.zeros(5)}, r"conv_out.bias: \(5,\), needs \(4,\)"),
    ({"unet__input_blocks.0.0.weight": torch.zeros(32)}, r"input_blocks.0.0.weight: \(32,\), needs 4 axes"),
    ({"vae__encoder.conv_out.bias": None}, r"SDXL's autoencoder, got 1 missing \(encoder.conv_out.bias\)"),
    ({"vae__post_quant_conv.weight": None}, r"SDXL's autoencoder, got 1 missing \(post_quant_conv.weight\)"),
    ({"control_model.weight": torch.zeros(1)}, r"1 unexpected \(control_model.weight\)"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_another_architecture_is_refused_in_one_line(
    released_state: dict[str, Tensor], changes: dict[str, Tensor | None], message: str
) -> None:
    with pytest.raises(ModelMismatch, match=message) as error:
        load_unclip(broken(released_state, **changes), head_dim=16)
    assert error.value.code == "checkpoint.keys"
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    for state in ({}, {"visual.conv1.weight": torch.zeros(2, 2)}):
        with pytest.raises(ModelMismatch, match="got 1 "):
            load_unclip(state)


def test_a_head_dim_that_does_not_divide_is_refused(released_state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelMismatch, match=r"heads of 48 numbers .* \(32, 64, 128\)"):
        load_unclip(released_state, head_dim=48)


def test_a_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="_class_name"):
        load_unclip(write_diffusers(tmp_path / "a", _class_name="UNet3DConditionModel"))
    with pytest.raises(ModelMismatch, match="projection_class_embeddings_input_dim"):
        load_unclip(write_diffusers(tmp_path / "b", projection_class_embeddings_input_dim=None))
    config = write_diffusers(tmp_path / "c") / "vae" / "config.json"
    config.write_text(re.sub(r'"scaling_factor": [\d.]+', '"scaling_factor": 0.18215', config.read_text()))
    with pytest.raises(ModelMismatch, match=r"0\.18215"):
        load_unclip(tmp_path / "c")
    for path in (tmp_path / "c" / "unet").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ModelMismatch, match="safetensors"):
        load_unclip(tmp_path / "c")


def test_dimensions_are_read_off_shapes(unclip: Unclip) -> None:
    assert unclip.layout == UnetLayout(
        widths=(32, 64, 128), depths=(0, 1, 1), head_dim=16, resnets=2, token_dim=24, vector_dim=64
    )
