"""The names that laboratories write down, exactly as they were promised."""

from __future__ import annotations

from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import mindsight.decoders.mindeye2
from mindsight.decoders.mindeye2 import MindEye2


def arguments(function: Any) -> list[tuple[str, Any]]:
    return [(name, one.default) for name, one in signature(function).parameters.items()]


def test_by_name_and_default(model: MindEye2) -> None:
    none = Parameter.empty
    assert arguments(model.ridge.forward) == [("voxels_BV", none), ("subject", 0)]
    assert arguments(model.tokens) == [("voxels_BV", none), ("subject", 0)]
    assert model.prior is not None
    predict = [("noisy_BND", none), ("t_B", none), ("cond_BND", none), ("cond_scale", 1.0)]
    assert arguments(model.prior.predict) == predict
    sample = [("cond_BND", none), ("steps", 20), ("cond_scale", 1.0), ("noises", None)]
    assert arguments(model.prior.sample)[:4] == sample
    for name in ("bimixco", "soft_clip", "soft_cont"):
        assert callable(getattr(mindsight.decoders.mindeye2.losses, name))


def test_from_a_path_or_a_state_dict(weights: dict[str, Tensor], reference: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"model_state_dict": weights}, tmp_path / "last.pth")
    for source in (tmp_path / "last.pth", str(tmp_path / "last.pth"), weights):
        model = mindsight.decoders.mindeye2.load_mindeye2(source)
        for subject in (0, 1):
            voxels_BV = reference[f"voxels{subject}"][:, 0]
            with torch.inference_mode():
                latent_BH, tokens = model.ridge(voxels_BV, subject), model.tokens(voxels_BV, subject=subject)
            assert latent_BH.shape == (len(voxels_BV), model.layout.hidden)
            wide = (len(voxels_BV), model.layout.tokens, model.layout.dim)
            assert tokens.backbone.shape == tokens.retrieval.shape == wide
            assert tokens.lowlevel is not None
            assert tokens.lowlevel.shape == (len(voxels_BV), 4, 28, 28)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_noises_are_taken_in_the_order_they_are_drawn(model: MindEye2, reference: dict[str, Any], scale: float) -> None:
    assert model.prior is not None
    cond_BND = reference["backbone"]
    torch.manual_seed(5)
    drawn = model.prior.sample(cond_BND, cond_scale=scale)
    torch.manual_seed(5)
    noises = [torch.randn(cond_BND.shape) for _ in range(19)]
    assert_close(model.prior.sample(cond_BND, 20, scale, noises), drawn)
