"""OpenCLIP's image tower: the same tokens from its own file and from an unCLIP checkpoint, and what open_clip gives."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    import open_clip

from mindsight.encoders.openclip import ImageTower, Values, _build, _configuration
from mindsight.errors import BadRequest, ModelMismatch
from support.tiny_open_clip import UNCLIP, make_clip, write_config, write_files
from support.tolerance import network

CLOSE = network(terms=192, sums=8)  # two layers, 48 wide, the sums of their feed-forward four times that


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    return make_clip()


@pytest.fixture(scope="module")
def files(clip: open_clip.CLIP, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return write_files(folder, clip) | {"config": write_config(folder)}


def as_seen(images: NDArray[np.uint8], values: Values) -> Tensor:
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean, std = (torch.tensor(of)[:, None, None] for of in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    return ((((pixels + 1) / 2 if values == "mindeye2" else pixels) - mean) / std).float()


@pytest.mark.parametrize("values", ["mindeye2", "clip"])
@pytest.mark.parametrize("name", ["release", "training", "unclip", "unclip ckpt"])
def test_every_source_gives_what_open_clip_gives(
    clip: open_clip.CLIP, files: dict[str, Path], images: NDArray[np.uint8], name: str, values: Values
) -> None:
    tower = ImageTower.load(files[name], files["config"])
    assert (tower.size_px, tower.prefix) == (
        16,
        {"release": "visual.", "training": "module.visual."}.get(name, UNCLIP + "visual."),
    )
    with torch.inference_mode():
        seen = as_seen(images, values)
        layers = clip.visual.forward_intermediates(seen, indices=1, normalize_intermediates=True, output_fmt="NLC")
        tokens, pooled = layers["image_intermediates"][0].numpy(), clip.encode_image(seen).numpy()
    got = tower.embed(images, "tokens", values)
    assert got.shape == (3, 16, 48)
    np.testing.assert_allclose(got, tokens, **CLOSE)
    np.testing.assert_allclose(tower.embed(images, "pooled", values), pooled, **CLOSE)
    assert tower.digest in tower.source("tokens", values)
    assert values in tower.source("tokens", values)


def test_equal_weights_give_equal_tokens_wherever_they_lie(files: dict[str, Path], images: NDArray[np.uint8]) -> None:
    own, inside = (ImageTower.load(files[name], files["config"]) for name in ("release", "unclip"))
    np.testing.assert_array_equal(own.embed(images, "tokens", "mindeye2"), inside.embed(images, "tokens", "mindeye2"))
    assert own.digest == inside.digest
    other = ImageTower.load(write_files(files["config"].parent / "other", make_clip(1))["release"], files["config"])
    assert other.digest != own.digest


def test_floats_and_bytes_are_the_same_images(files: dict[str, Path], images: NDArray[np.uint8]) -> None:
    tower = ImageTower.load(files["release"], files["config"])
    floats = images.astype(np.float32) / 255
    np.testing.assert_allclose(tower.embed(floats, "tokens", "clip"), tower.embed(images, "tokens", "clip"), **CLOSE)


def test_the_configuration_sets_which_activation_and_what_colours(
    files: dict[str, Path], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    usual = ImageTower.load(files["release"], files["config"])
    quick = ImageTower.load(files["release"], write_config(tmp_path, quick_gelu=True))
    with torch.inference_mode():
        expected = make_clip(quick_gelu=True).encode_image(as_seen(images, "clip")).numpy()
    np.testing.assert_allclose(quick.embed(images, "pooled", "clip"), expected, **CLOSE)
    assert np.abs(usual.embed(images, "pooled", "clip") - expected).max() > 1e-3


def test_the_configuration_of_mindeye2s_embedder_has_its_parameters() -> None:
    """1,909,889,025 in the released checkpoint, of which 64,981,761 are what is left of the text tower."""
    visual = _build(*_configuration("ViT-bigG-14")[:2])
    assert sum(tensor.numel() for tensor in visual.state_dict().values()) == 1_909_889_025 - 64_981_761
    assert visual.positional_embedding.shape == (257, 1664)


def test_files_without_that_tower_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    def refused(weights: Path, model: str | Path = files["config"]) -> str:
        with pytest.raises((ModelMismatch, BadRequest)) as error:
            ImageTower.load(weights, model)
        return f"{error.value.code}: {error.value}"

    state = load_file(files["unclip"])
    save_file({k: t for k, t in state.items() if "visual" not in k}, tmp_path / "none.safetensors")
    assert "tower.weights" in refused(tmp_path / "none.safetensors")
    lacking = UNCLIP + "visual.ln_post.bias"
    save_file({k: t for k, t in state.items() if k != lacking}, tmp_path / "lacking.safetensors")
    assert "1 missing (ln_post.bias)" in refused(tmp_path / "lacking.safetensors")
    assert "misshapen (" in refused(files["release"], write_config(tmp_path, embed_dim=25))
    two = state | {k.replace("embedders.0", "embedders.1"): t.clone() for k, t in state.items() if "visual" in k}
    save_file(two, tmp_path / "two.safetensors")
    assert "embedders.1" in refused(tmp_path / "two.safetensors")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Path("code")))
    assert "checkpoint.unreadable" in refused(tmp_path / "code.pt")
    (tmp_path / "cut.safetensors").write_bytes(files["release"].read_bytes()[:1000])
    assert "model.file" in refused(tmp_path / "cut.safetensors")
    assert "tower.model" in refused(files["release"], "ViT-nothing")
    (tmp_path / "empty.json").write_text("{}")
    assert "tower.model" in refused(files["release"], tmp_path / "empty.json")
    assert "tower.model" in refused(files["release"], write_config(tmp_path, vision_cfg={"depth": 3}))
