"""A published LoRA of SDXL is added to an unCLIP's weights; what does not fit is counted, and another's is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from mindsight.cli import app
from mindsight.errors import MindsightError, ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_generator
from mindsight.generators.unclip import load_unclip
from mindsight.generators.unclip.sdxl.lora import convert_lora, fitting, require_sdxl, weights_of
from mindsight.generators.unclip.sdxl.lora_file import Factors, read_lora
from mindsight.generators.unclip.sdxl.released import State, take_apart
from support.reported import Reported
from support.tiny_unclip import UNET, tiny_parts, write_tiny

RANK, ALPHA = 4, 8.0
# of LCM-LoRA for SDXL (Luo et al. 2023, arXiv 2311.05556), and of other LoRAs for few steps
CHANGED = (
    ".to_q", ".to_k", ".to_v", ".to_out.0", ".proj_in", ".proj_out", ".ff.net.0.proj", ".ff.net.2", ".conv1", ".conv2",
    ".conv_shortcut", ".downsamplers.0.conv", ".upsamplers.0.conv", ".time_emb_proj",
)  # fmt: skip
OF_TOKENS = ("attn2.to_k", "attn2.to_v")
TEXT_DIM = 2048  # of SDXL's own tokens


def changed_layers(unet: State) -> dict[str, tuple[int, ...]]:
    """Layer -> shape of its weight in SDXL's base, of every layer that a LoRA for few steps changes."""
    layers = {
        key.removesuffix(".weight"): tuple(tensor.shape) for key, tensor in unet.items() if key.endswith(".weight")
    }
    return {
        name: (shape[0], TEXT_DIM) if name.endswith(OF_TOKENS) else shape
        for name, shape in layers.items()
        if name.endswith(CHANGED)
    }


def drawn(layers: Mapping[str, tuple[int, ...]], device: str = "cpu") -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> (down, up); of a convolution with its kernel in the first."""
    torch.manual_seed(1)
    return {
        name: (
            torch.randn(RANK, *shape[1:], device=device),
            torch.randn(shape[0], RANK, *(1,) * (len(shape) - 2), device=device),
        )
        for name, shape in layers.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unclip") / "weights"
    write_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def factors() -> dict[str, tuple[Tensor, Tensor]]:
    return drawn(changed_layers(tiny_parts().unet))


def kohya(factors: Mapping[str, tuple[Tensor, Tensor]]) -> State:
    state: State = {}
    for name, (down, up) in factors.items():
        stem = f"lora_unet_{name.replace('.', '_')}"
        state |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(ALPHA),
        }
    return state


def test_of_the_published_sizes_648_layers_fit_and_140_read_other_tokens(published: dict[str, Tensor]) -> None:
    parts = take_apart(published, 64)
    layers = changed_layers(parts.unet)
    assert len(layers) == 788
    held = {name: Factors(down, up, 1.0) for name, (down, up) in drawn(layers, "meta").items()}
    assert sum(one.down.numel() + one.up.numel() for one in held.values()) * 64 // RANK == pytest.approx(
        197e6, rel=2e-3
    )
    report = fitting(held, weights_of(held, parts.unet, parts.unet_layout.resnets), parts.unet)
    assert (len(report.merged), len(report.skipped), len(report.unknown)) == (648, 140, 0)
    require_sdxl("lcm.safetensors", report)


def test_the_released_names_are_found_too(published: dict[str, Tensor]) -> None:
    """Kohya's trainer spells SDXL's layers as Stability AI does."""
    parts = take_apart(published, 64)
    prefix = "model.diffusion_model."
    names = [key.removeprefix(prefix).removesuffix(".weight") for key in published if key.startswith(prefix)]
    layers = [name for name in names if not name.endswith(".bias")]
    found = weights_of([name.replace(".", "_") for name in layers], parts.unet, parts.unet_layout.resnets)
    assert None not in found.values()
    assert len(set(found.values())) == len(layers)
    name = "output_blocks.2.2.conv"
    assert found[name.replace(".", "_")] == "up_blocks.0.upsamplers.0.conv.weight"


@pytest.mark.parametrize("layout", ["kohya", "peft", "peft folder", "diffusers", "diffusers, older"])
def test_every_layout_gives_the_same_weights(
    layout: str, folder: Path, factors: dict[str, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    path, metadata = tmp_path / "lora.safetensors", {}
    if layout == "kohya":
        state = kohya(factors)
    elif layout == "diffusers, older":  # has no alpha: it is in the second factor
        state = {}
        for name, (down, up) in factors.items():
            stem = f"unet.{name}.lora"
            if ".attn" in name:
                attention, layer = name.removesuffix(".0").rsplit(".", 1)
                stem = f"unet.{attention}.processor.{layer}_lora"
            state |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up * ALPHA / RANK}
    else:
        prefix = "base_model.model." if layout == "peft folder" else "unet."
        ending = ".default.weight" if layout == "peft" else ".weight"
        state = {f"{prefix}{name}.lora_A{ending}": down for name, (down, _) in factors.items()}
        state |= {f"{prefix}{name}.lora_B{ending}": up for name, (_, up) in factors.items()}
        config = {"r": RANK, "lora_alpha": ALPHA, "alpha_pattern": {}, "use_rslora": False}
        if layout == "peft folder":
            path = tmp_path / "adapter_model.safetensors"
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        else:
            metadata = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in config.items()})}
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata)
    reported = Reported()
    report = convert_lora(path, folder, tmp_path / "merged", reported)
    reported.check()
    changed, before = (load_unclip(place).unet.state_dict() for place in (tmp_path / "merged", folder))
    skipped = {f"{name}.weight" for name in factors if name.endswith(OF_TOKENS)}
    assert set(report.skipped) == skipped
    assert len(report.merged) == len(factors) - len(skipped)
    for key, weight in before.items():
        expected = weight
        if key.removesuffix(".weight") in factors and key not in skipped:
            down, up = factors[key.removesuffix(".weight")]
            expected = weight + ALPHA / RANK * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        # merged in float32, written in float16 as the folder is
        torch.testing.assert_close(changed[key], expected, rtol=2.0**-10, atol=2.0**-10)
        assert torch.equal(changed[key], weight) == (expected is weight)


def test_the_command_writes_a_generator_of_its_own(
    folder: Path, factors: dict[str, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    save_file(kohya(factors), tmp_path / "fast.safetensors")
    arguments = ["convert", "lora", str(tmp_path / "fast.safetensors"), str(folder), str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    n_skipped = sum(name.endswith(OF_TOKENS) for name in factors)
    assert f"{len(factors) - n_skipped} layers changed, {n_skipped} skipped" in done.output
    manifests = [json.loads((place / "manifest.json").read_text()) for place in (folder, tmp_path / "out")]
    assert manifests[1]["loras"][0]["file"] == "fast.safetensors"
    differing = {name for name, digest in manifests[0]["sha256"].items() if manifests[1]["sha256"][name] != digest}
    assert differing == {"unet/diffusion_pytorch_model.safetensors", "config.json"}
    assert load_generator(tmp_path / "out").evaluations(SampleOptions()) == 4  # of the preset distilled
    images = [
        load_unclip(place).sample(torch.ones(1, 4, UNET.token_dim), "distilled") for place in (folder, tmp_path / "out")
    ]
    assert (images[0] - images[1]).abs().max() > 1e-2


def without(factors: Mapping[str, tuple[Tensor, Tensor]], ending: str) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: held for name, held in factors.items() if not name.endswith(ending)}


def refused(state: State, folder: Path, tmp_path: Path) -> MindsightError:
    save_file(state, tmp_path / "lora.safetensors")
    with pytest.raises(ModelMismatch) as error:
        convert_lora(tmp_path / "lora.safetensors", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(error.value)
    return error.value


def test_a_lora_of_another_network_is_refused(
    folder: Path, factors: dict[str, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    other = drawn({"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (32, 32), "conv_in": (32, 4, 3, 3)})
    error = refused(kohya(other), folder, tmp_path)
    assert error.code == "lora.targets"
    assert "lora.safetensors with 1 layers that fit, 1 that it does not have" in str(error)
    name = next(name for name in factors if name.endswith(".ff.net.2"))
    wider = factors | drawn({name: (64, 24)})
    error = refused(kohya(wider), folder, tmp_path)
    assert (error.code, f"1 of another shape ({name}.weight)" in str(error)) == ("lora.targets", True)
    only_text = {name: held for name, held in factors.items() if name.endswith(OF_TOKENS)}
    assert "0 layers that fit:" in str(refused(kohya(only_text), folder, tmp_path))


def test_what_is_no_lora_is_refused(folder: Path, factors: dict[str, tuple[Tensor, Tensor]], tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    pair = {f"{name}.lora_down.weight": torch.zeros(4, 64), f"{name}.lora_up.weight": torch.zeros(64, 4)}
    of_layer = "mid_block_attentions_0_proj_in"
    for state, message in (
        ({"conv_in.weight": torch.zeros(3, 3)}, "1 unexpected (conv_in.weight); 1 missing (factors)"),
        (pair | {f"{name}.hada_w1_a": torch.zeros(4)}, f"1 unexpected ({name}.hada_w1_a)"),
        (dict(list(pair.items())[:1]), f"1 missing ({of_layer}, one of its two factors)"),
        (
            pair | {f"{name}.lora_up.weight": torch.zeros(64, 5)},
            f"1 misshapen ({of_layer}: (64, 5) by",
        ),
    ):
        error = refused(state, folder, tmp_path)
        assert (error.code, message in str(error)) == ("lora.keys", True), str(error)
    bare = tmp_path / "bare"
    bare.mkdir()
    save_file(kohya(factors), tmp_path / "good.safetensors")
    with pytest.raises(ModelMismatch, match=r"valid manifest\.json"):
        convert_lora(tmp_path / "good.safetensors", bare, tmp_path / "out")


def test_alpha_is_that_of_the_layer_where_it_has_its_own(tmp_path: Path) -> None:
    state = {"unet.a.b.lora_A.weight": torch.ones(4, 3), "unet.a.b.lora_B.weight": torch.ones(2, 4)}
    for stated, scale in (
        ({}, 1.0),
        ({"lora_alpha": 8}, 2.0),
        ({"lora_alpha": 8, "alpha_pattern": {"b": 2}}, 0.5),
        ({"lora_alpha": 8, "use_rslora": True}, 4.0),
    ):
        save_file(state, tmp_path / "l.safetensors", {"lora_adapter_metadata": json.dumps(stated)})
        held = read_lora(tmp_path / "l.safetensors")["a.b"]
        assert held.scale == scale
        assert torch.equal(held.added(), torch.full((2, 3), 4.0 * scale))
    save_file(state, tmp_path / "l.safetensors", {"lora_adapter_metadata": "{"})
    with pytest.raises(ModelMismatch, match="configuration of a LoRA"):
        read_lora(tmp_path / "l.safetensors")
