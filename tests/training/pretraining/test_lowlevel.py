"""Targets of the low-level head: the teacher beside timm's ConvNeXt, and the file that training reads."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip.sdxl.lowlevel import load_autoencoder
from mindsight.retrieval.from_files import open_images
from mindsight.weights.state_dict import write_state_dict
from support.tiny_unclip import write_lowlevel
from training.pretraining.lowlevel import augmented, main
from training.pretraining.targets import Lowlevel
from training.pretraining.teacher import MEAN, STD, Teacher, load_teacher

WIDTHS, DEPTHS = (8, 16, 24, 32), (1, 2, 3, 1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small teacher as a published one is wrapped: by DataParallel, with heads that are not read."""
    torch.manual_seed(1)
    teacher = Teacher(WIDTHS, DEPTHS, (512, 512, 512))
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    state = {f"module.{name}": tensor.contiguous() for name, tensor in teacher.state_dict().items()}
    state |= {"module.projector.0.weight": torch.zeros(3, 3), "module.backbone.norm.weight": torch.ones(32)}
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    write_state_dict(path, state)
    return path


@pytest.mark.slow
def test_the_backbone_is_timms_convnext(checkpoint: Path) -> None:
    import timm

    teacher = load_teacher(checkpoint)
    peer = timm.create_model("convnext_tiny", num_classes=0, dims=WIDTHS, depths=DEPTHS).eval()
    state = {}
    for key, tensor in teacher.backbone.state_dict().items():
        key = key.replace("downsample_layers.0.", "stem.").replace("dwconv", "conv_dw").replace("pwconv", "mlp.fc")
        key = re.sub(r"stages\.(\d+)\.(\d+)", r"stages.\1.blocks.\2", key)
        state[re.sub(r"downsample_layers\.(\d+)\.(\d+)", r"stages.\1.downsample.\2", key)] = tensor
    missing = peer.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith("head.") for key in missing.missing_keys)
    image = torch.rand(2, 3, 96, 96)
    normed = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = teacher.maps_projector(peer.forward_features(normed).flatten(2).transpose(1, 2))
        torch.testing.assert_close(teacher(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_file_of_targets_is_made_and_read(checkpoint: Path, tmp_path: Path) -> None:
    write_lowlevel(tmp_path / "vae")
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    for name, one in zip("cab", pixels, strict=True):
        Image.fromarray(one).save(tmp_path / f"images/{name}.png")
    command = [str(tmp_path / "images"), str(tmp_path / "low.h5"), "--autoencoder", str(tmp_path / "vae")]
    assert main([*command, "--teacher", str(checkpoint), "--augmentations", "2"]) == 0
    assert main([*command, "--teacher", str(checkpoint)]) == 1  # it is there already
    assert not list(tmp_path.glob(".*partial"))

    lowlevel = Lowlevel.open(tmp_path / "low.h5")
    first = lowlevel.read(["b", "a"], np.array([0, 3]))
    assert [tuple(each.shape) for each in first] == [(2, 4, 28, 28), (2, 49, 512), (2, 49, 512)]
    second = lowlevel.read(["b", "a"], np.array([1, 2]))
    assert torch.equal(first.teacher_BPC, second.teacher_BPC)
    assert not torch.equal(first.augmented_BPC[0], second.augmented_BPC[0])

    square = open_images(tmp_path / "images", 224).read(0)  # a
    image = torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)[None] / 255
    network = load_autoencoder(tmp_path / "vae")
    with torch.no_grad():
        latent = network.encode(2 * image - 1).latent_dist.mode() * 0.18215
        features = load_teacher(checkpoint)(image)
    torch.testing.assert_close(first.latent_B4HW[1], latent[0], rtol=2e-3, atol=2e-3)  # kept in half precision
    torch.testing.assert_close(first.teacher_BPC[1], features[0], rtol=2e-3, atol=2e-2)


def test_augmentations_follow_from_their_numbers() -> None:
    image = torch.rand(3, 32, 32)
    drawn = [augmented(image, 0, row, number) for row in range(6) for number in range(2)]
    assert all(one.shape == image.shape and float(one.min()) >= 0 and float(one.max()) <= 1 for one in drawn)
    assert torch.equal(augmented(image, 0, 3, 1), drawn[7])
    assert sum(torch.equal(one, image) for one in drawn) < 3  # a draw may leave it whole and in its own colours


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    write_state_dict(tmp_path / "other.safetensors", {"backbone.layer1.weight": torch.zeros(2, 2)})
    with pytest.raises(ModelMismatch, match=r"got none of .*: choose convnext_xlarge") as raised:
        load_teacher(tmp_path / "other.safetensors")
    assert raised.value.code == "checkpoint.keys"
    with h5py.File(tmp_path / "x.h5", "w"):
        pass
    with pytest.raises(ModelMismatch, match="make it with"):
        Lowlevel.open(tmp_path / "x.h5")
