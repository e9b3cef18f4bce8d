"""Which files load, and the error messages of those that do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mindsight.decoders.mindeye2 import MindEye2, load_mindeye2
from mindsight.decoders.mindeye2.layout import Layout, PriorLayout, infer_layout
from mindsight.errors import ModelMismatch
from support.listing import released


def meta(shared: Path, section: str) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in released(shared, section).items()}


def test_layout_of_released_files(shared: Path) -> None:
    single = meta(shared, "A")
    assert len(single) == 249
    assert infer_layout(single) == Layout(
        voxels=(15724,), hidden=4096, tokens=256, dim=1664, n_blocks=4, lowlevel=True, prior=PriorLayout()
    )
    several = meta(shared, "B")
    assert len(several) == 161
    assert infer_layout(several) == Layout(
        voxels=(14278, 15226, 13153, 13039, 17907, 12682, 14386),
        hidden=1024,
        tokens=256,
        dim=1664,
        prior=PriorLayout(),
    )


@pytest.mark.parametrize("section", ["A", "B", "B2"])
def test_released_layouts_load(shared: Path, section: str) -> None:
    loaded = load_mindeye2(meta(shared, section))
    counts = {"A": 2_227_294_844, "B": 816_319_768, "B2": 729_327_896}
    frozen = 16  # rotary frequencies, counted once there
    assert sum(p.numel() for p in loaded.parameters()) + frozen == counts[section]


def test_files_give_the_same_model(weights: dict[str, Tensor], model: MindEye2, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "small.safetensors")
    torch.save({"epoch": 3, "model_state_dict": weights}, tmp_path / "last.pth")
    torch.save(weights, tmp_path / "bare.pth")
    for name in ("small.safetensors", "last.pth", "bare.pth"):
        loaded = load_mindeye2(tmp_path / name)
        assert loaded.layout == model.layout
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_without_lowlevel_head_or_prior(weights: dict[str, Tensor], model: MindEye2) -> None:
    head = ("backbone.blin1", "backbone.bnorm", "backbone.bupsampler", "backbone.b_maps_projector")
    loaded = load_mindeye2({k: v for k, v in weights.items() if not k.startswith((*head, "diffusion_prior."))})
    assert loaded.layout == replace(model.layout, lowlevel=False, prior=None)
    assert loaded.prior is None
    assert loaded.tokens(torch.zeros(1, 37)).lowlevel is None


def test_recomputable_buffers_may_be_absent(weights: dict[str, Tensor], model: MindEye2) -> None:
    loaded = load_mindeye2({k: v for k, v in weights.items() if "rotary_emb" not in k and "noise_scheduler" not in k})
    assert loaded.layout == model.layout


def test_wrong_keys_are_listed(weights: dict[str, Tensor]) -> None:
    wrong = dict(weights)
    del wrong["backbone.clip_proj.5.bias"]
    wrong["backbone.extra"] = torch.zeros(1)
    wrong["ridge.linears.1.bias"] = torch.zeros(7)
    with pytest.raises(ModelMismatch) as raised:
        load_mindeye2(wrong)
    expected = str(raised.value)
    assert "1 missing (backbone.clip_proj.5.bias)" in expected
    assert "1 unexpected (backbone.extra)" in expected
    assert "1 misshapen (ridge.linears.1.bias: (7,), needs (48,))" in expected
    assert raised.value.details == {"missing": 1, "unexpected": 1, "misshapen": 1}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("backbone.backbone_linear.weight", None, "missing (backbone.backbone_linear.weight)"),
        ("ridge.linears.0.weight", None, "missing (ridge.linears.0.weight)"),
        ("backbone.clip_proj.0.weight", torch.zeros(2, 2), "clip_proj.0.weight: (2, 2), needs 1 axes"),
        ("backbone.clip_proj.0.weight", torch.zeros(103), "whole tokens of 103"),
        ("backbone.clip_proj.0.weight", torch.zeros(0), "whole tokens of 0"),
        # numbers that would take a machine's memory if they were believed
        ("ridge.linears.999999999999.weight", torch.zeros(2, 2), "missing (ridge.linears.2.weight)"),
        ("backbone.mixer_blocks1.999999999999.0.weight", torch.zeros(2), "mixer_blocks1.999999999999.0.weight"),
        ("backbone.mixer_blocks2.0.0.weight", torch.zeros(2), "one that mixes 2"),
    ],
)
def test_tensors_that_fix_a_dimension(
    weights: dict[str, Tensor], key: str, value: Tensor | None, expected: str
) -> None:
    wrong = {k: v for k, v in weights.items() if k != key} | ({} if value is None else {key: value})
    with pytest.raises(ModelMismatch) as raised:
        load_mindeye2(wrong)
    assert expected in str(raised.value)


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("noise.safetensors", "noise.pth"):
        (tmp_path / name).write_bytes(b"not a checkpoint" * 8)
        with pytest.raises(ModelMismatch, match=f"got {name}"):
            load_mindeye2(tmp_path / name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_rotation_in_float32(weights: dict[str, Tensor], dtype: torch.dtype) -> None:
    for key, tensor in load_mindeye2(weights, dtype).state_dict().items():
        assert tensor.dtype == (torch.float32 if key.endswith("rotary_emb.freqs") else dtype)


@pytest.mark.parametrize("held", [3, [1], None, {1: torch.zeros(2)}, {"a": 1}])
def test_a_state_dict_that_is_none_is_refused(tmp_path: Path, held: object) -> None:
    torch.save({"model_state_dict": held}, tmp_path / "last.pth")
    with pytest.raises(ModelMismatch, match="expected"):
        load_mindeye2(tmp_path / "last.pth")
