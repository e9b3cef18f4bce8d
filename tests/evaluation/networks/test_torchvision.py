"""The features against hooks in torchvision's whole models, and against figures of networks written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mindsight.evaluation.networks import NETWORKS
from mindsight.evaluation.networks.build import build
from mindsight.evaluation.networks.loading import load_network
from support.closed_form import closed_form_weights

SPECS = {spec.key: spec for spec in NETWORKS}
MADE: dict[str, tuple[str, dict[str, bool]]] = {  # torchvision's function, and what it is given
    "alexnet": ("alexnet", {}),
    "inception": ("inception_v3", {"transform_input": True, "init_weights": False}),
    "efficientnet": ("efficientnet_b1", {}),
    "swav": ("resnet50", {}),
}


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=[pytest.mark.slow] if key != "alexnet" else []) for key in MADE]
)
def test_features_equal_torchvisions(key: str, tmp_path: Path) -> None:
    import torchvision.models

    spec, rng = SPECS[key], np.random.default_rng(0)
    torch.manual_seed(0)
    name, options = MADE[key]
    model = getattr(torchvision.models, name)(weights=None, **options).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():  # statistics as after training, or a norm is the identity
            if name.endswith("running_mean"):
                tensor.copy_(0.1 * torch.randn_like(tensor))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
    torch.save(model.state_dict(), tmp_path / spec.files[0])
    images = rng.random((2, 256, 256, 3)).astype(np.float32)

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    pixels = torch.nn.functional.interpolate(pixels, (spec.size, spec.size), mode="bilinear", antialias=False)
    mean, std = (torch.tensor(of)[:, None, None] for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected: dict[str, Tensor] = {}
    for layer in spec.metrics:
        model.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: expected.update({layer: output.clone()})
        )
    with torch.inference_mode():
        model((pixels - mean) / std)
    got = load_network(spec, tmp_path / spec.files[0]).features(images)
    assert set(got) == set(spec.metrics)
    for layer, values in got.items():
        theirs = expected[layer].flatten(1).numpy()
        assert theirs.std() > 0
        np.testing.assert_allclose(values, theirs, rtol=1e-3, atol=1e-4 * float(np.abs(theirs).max()))


# mean and standard deviation of each layer's features, computed once by networks written without torchvision
BY_HAND = {
    "features.4": (0.700509, 0.890071),
    "features.11": (0.0321816, 0.0387342),
    "inception": (0.172082, 0.341556),
    "efficientnet": (1.47974, 2.02192),
    "swav": (9.03872, 8.17565),
}


@pytest.mark.slow
@pytest.mark.parametrize("key", MADE)
def test_features_are_those_of_another_implementation(key: str, tmp_path: Path) -> None:
    spec = SPECS[key]
    torch.save(closed_form_weights(build(spec).state_dict()), tmp_path / "w.pth")
    images = (np.sin(12.9898 * np.arange(2 * 64 * 64 * 3)).astype(np.float32) * 0.5 + 0.5).reshape(2, 64, 64, 3)
    for layer, values in load_network(spec, tmp_path / "w.pth").features(images).items():
        by_hand = BY_HAND.get(layer) or BY_HAND[key]
        assert (values.mean(), values.std()) == pytest.approx(by_hand, rel=1e-3)
