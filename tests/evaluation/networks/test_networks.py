"""Weight files as they are published, images as each network wants them, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mindsight import evaluation
from mindsight.accuracy import Accuracy
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.evaluation.metrics.metric import IMAGE_METRICS
from mindsight.evaluation.networks import NETWORKS, NetworkSpec
from mindsight.evaluation.networks.build import build
from mindsight.evaluation.networks.loading import load_network
from support.closed_form import closed_form_weights
from support.tolerance import network as closeness

SPECS = {spec.key: spec for spec in NETWORKS}


def weights(key: str) -> dict[str, Tensor]:
    return closed_form_weights(build(SPECS[key]).state_dict())


@pytest.mark.slow
def test_files_as_published_load(tmp_path: Path) -> None:
    """With classifier, counters and heads that features do not need; SwAV's from a wrapper; the old file form."""
    alexnet = SPECS["alexnet"]
    state = weights("alexnet")
    torch.save(
        state | {"classifier.6.bias": torch.zeros(1000)},
        tmp_path / alexnet.files[0],
        _use_new_zipfile_serialization=False,
    )
    located = alexnet.locate(tmp_path)
    assert located is not None
    loaded = load_network(alexnet, located).model.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())

    swav = SPECS["swav"]
    state = weights("swav")
    extra = {"bn1.num_batches_tracked": torch.tensor(7), "projection_head.0.weight": torch.zeros(2, 2)}
    wrapped = {
        f"module.{name}": tensor for name, tensor in (state | extra | {"prototypes.weight": torch.ones(3)}).items()
    }
    torch.save(wrapped, tmp_path / swav.files[0])
    loaded = load_network(swav, tmp_path / swav.files[0]).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_images_are_resized_and_normalised_for_the_network(tmp_path: Path) -> None:
    spec = SPECS["alexnet"]
    torch.save(weights("alexnet"), tmp_path / "a.pth")
    network = load_network(spec, tmp_path / "a.pth")
    images = np.random.default_rng(0).random((1, 256, 256, 3)).astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((images - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network.model(pixels)
    features = network.features(images)
    assert {layer: values.shape for layer, values in features.items()} == {
        "features.4": (1, 192 * 31 * 31),
        "features.11": (1, 256 * 15 * 15),
    }
    close = closeness(terms=192 * 9, sums=8)  # as in the widest of five convolutions
    for layer, values in features.items():
        np.testing.assert_allclose(values, expected[layer].flatten(1).numpy(), **close)
    assert [SPECS[key].size for key in SPECS] == [256, 342, 224, 255, 224]


def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    spec = SPECS["alexnet"]
    state = weights("alexnet")
    state["features.99.weight"] = state.pop("features.0.weight")
    state["features.3.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelMismatch) as caught:
        load_network(spec, tmp_path / "w.pth")
    for part in (
        "missing features.0.weight",
        "unexpected features.99.weight",
        "features.3.bias of shape (3,), needs (192,)",
    ):
        assert part in str(caught.value)


def test_code_in_a_weight_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"features.0.weight": Path("x")}, path)
    with pytest.raises(ModelMismatch, match="cannot be read"):
        load_network(SPECS["alexnet"], path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelMismatch, match="cannot be read"):
        load_network(SPECS["alexnet"], path)


def tiny_clip(folder: Path) -> NetworkSpec:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 224,
        "patch_size": 56,
        "projection_dim": 16,
    }
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 50,
    }
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).save_pretrained(folder)
    return SPECS["clip"]


def test_clip_embeds_as_transformers_does(tmp_path: Path) -> None:
    from transformers import CLIPModel

    spec = tiny_clip(tmp_path / "clip-vit-large-patch14")
    located = spec.locate(tmp_path)
    assert located is not None
    network = load_network(spec, located)
    images = np.random.default_rng(1).random((3, 224, 224, 3)).astype(np.float32)
    mean, std = np.array(spec.normalisation, np.float32)
    with torch.inference_mode():
        pixels = torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)
        whole = CLIPModel.from_pretrained(located, local_files_only=True)
        expected = whole.visual_projection(whole.vision_model(pixel_values=pixels).pooler_output)
    np.testing.assert_allclose(
        network.features(images)["image_embeds"], expected.numpy(), **closeness(terms=3072, sums=8)
    )
    assert len(network.digest) == 64


def test_a_clip_folder_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "clip-vit-large-patch14"
    spec = tiny_clip(folder)
    held = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in held.items() if "visual_projection" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelMismatch, match="visual_projection"):
        load_network(spec, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelMismatch, match=r"model\.safetensors"):
        load_network(spec, folder)


class Colours:
    """Replaces a network's features: the images themselves, another power of them for each layer."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec

    def features(self, images_KHWC: np.ndarray) -> dict[str, np.ndarray]:
        flat = images_KHWC.reshape(len(images_KHWC), -1)
        return {layer: flat**power for power, layer in enumerate(self.spec.metrics, 1)}


def test_public_names_are_there_and_no_others() -> None:
    assert all(callable(getattr(evaluation, name)) for name in evaluation.__all__)
    assert evaluation.Accuracy is Accuracy
    with pytest.raises(AttributeError, match="measure_all"):
        evaluation.__getattr__("measure_all")


def test_there_is_one_function_for_each_published_metric() -> None:
    """Each against its definition in plain NumPy, and none takes another's network."""
    rng = np.random.default_rng(4)
    images = rng.random((7, 6, 6, 3), np.float32)
    recons = (0.3 * images + 0.7 * rng.random((7, 6, 6, 3), np.float32)).astype(np.float32)
    named = {
        "alexnet2": ("alexnet", evaluation.alexnet_2, 1), "alexnet5": ("alexnet", evaluation.alexnet_5, 2),
        "inception": ("inception", evaluation.inception, 1), "clip": ("clip", evaluation.clip, 1),
        "efficientnet": ("efficientnet", evaluation.efficientnet, 1), "swav": ("swav", evaluation.swav, 1),
    }  # fmt: skip
    assert {"pixcorr", "ssim", *named} == {metric.key for metric in IMAGE_METRICS}
    for key, (network, function, power) in named.items():
        score = function(images, recons, Colours(SPECS[network]))
        r = np.corrcoef(images.reshape(7, -1) ** power, recons.reshape(7, -1) ** power)[:7, 7:]
        expected = (r < np.diag(r)).sum(axis=0) / 6 if score.metric.higher_is_better else 1 - np.diag(r)
        np.testing.assert_allclose(score.values_K, expected, atol=1e-6)
        assert score.metric.key == key
        with pytest.raises(BadRequest) as raised:
            function(images, recons, Colours(SPECS["swav" if network != "swav" else "clip"]))
        assert raised.value.code == "features.network"
