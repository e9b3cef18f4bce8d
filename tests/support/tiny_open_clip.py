"""A CLIP of open_clip's, small enough for a test, with random weights, in the files it is found in."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    import open_clip

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 16, "layers": 2, "width": 48, "head_width": 16, "mlp_ratio": 2.5, "patch_size": 4,
    },
    "text_cfg": {"context_length": 5, "vocab_size": 11, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
UNCLIP = "conditioner.embedders.0.model."


def make_clip(seed: int = 0, **changes: Any) -> open_clip.CLIP:
    import open_clip

    torch.manual_seed(seed)
    model = open_clip.CLIP(**(CONFIG | changes))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and gains too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def write_files(folder: Path, model: open_clip.CLIP) -> dict[str, Path]:
    """The same weights as open_clip writes them, as a training run does, and inside of an unCLIP checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "attn_mask"}
    files = {
        "release": folder / "open_clip_model.safetensors",
        "training": folder / "epoch_3.pt",
        "unclip": folder / "unclip.safetensors",
        "unclip ckpt": folder / "unclip.ckpt",
    }
    save_file(state, files["release"])
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": t for name, t in state.items()}}, files["training"])
    # the text tower's blocks are deleted there, its other tensors are not
    inside = {UNCLIP + name: t for name, t in state.items() if not name.startswith("transformer.")}
    others = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.randn(8, 4, 3, 3),
        "first_stage_model.decoder.conv_in.weight": torch.randn(8, 4, 3, 3),
        "denoiser.sigmas": torch.linspace(0, 1, 1000),
    }
    save_file(inside | others, files["unclip"])
    callbacks = {"ModelCheckpoint": Fraction(1, 3)}  # an object of a class that a weights-only reader does not know
    torch.save({"state_dict": inside | others, "global_step": 110000, "callbacks": callbacks}, files["unclip ckpt"])
    return files


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.json"
    path.write_text(json.dumps({"model_cfg": CONFIG | changes}))
    return path
