"""The state dict of a MindEye2 checkpoint, whatever it lies in, and whether it is one.

Knows nothing of downloads: what is there lies where it lies, and is memory-mapped, so that reading costs no copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mindsight.decoders.mindeye2.layout import Layout, infer_layout, require_keys
from mindsight.decoders.mindeye2.model import MindEye2
from mindsight.decoders.mindeye2.transformer import rotary_frequencies
from mindsight.errors import ModelMismatch
from mindsight.weights.torchfile import read_torch_file
from mindsight.weights.zero import MODEL_STATES, find_zero_folder, read_zero, zero_files

RECOMPUTED = "diffusion_prior.noise_scheduler."
FREQUENCIES = ".rotary_emb.freqs"


def source_files(path: Path) -> list[Path]:
    """The files that ``read_state_dict`` reads: the file itself, or those of a DeepSpeed folder.

    Raises ModelMismatch (``checkpoint.missing``) where there is neither.
    """
    if path.is_file():
        return [path]
    folder = find_zero_folder(path) if path.is_dir() else None
    if folder is None:
        raise ModelMismatch(
            f"expected a checkpoint file or a DeepSpeed folder with {MODEL_STATES}, {path.name} is neither",
            code="checkpoint.missing",
        )
    return zero_files(folder)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of a ``.safetensors`` file, of a ``.pth`` as the reference writes it, or of a DeepSpeed folder.

    Optimizer state and the like are left where they are: nothing of a mapped file is read before it is used.

    Raises
    ------
    ModelMismatch
        Nothing is there, or what is there cannot be read without running code.
    """
    first = source_files(path)[0]
    if path.is_dir():
        return read_zero(first.parent)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    held = read_torch_file(path)
    state = held.get("model_state_dict", held)
    if not isinstance(state, Mapping):
        raise ModelMismatch(
            f"expected a state dict in {path.name}, got a {type(state).__name__}", code="checkpoint.unreadable"
        )
    return {key: tensor for key, tensor in state.items() if isinstance(key, str) and isinstance(tensor, Tensor)}


def fitting_state(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """The layout that a state dict describes, and all it needs: without what is recomputed, with what was left out.

    Raises ModelMismatch, which lists the keys that are missing, unexpected or misshapen.
    """
    layout = infer_layout(state)
    with torch.device("meta"):
        wanted = MindEye2(layout).state_dict()
    # the noise schedule follows from its definition, and so do rotary frequencies where a file leaves them out
    recomputed = {
        key: rotary_frequencies(2 * len(tensor)) for key, tensor in wanted.items() if key.endswith(FREQUENCIES)
    }
    found = recomputed | {key: tensor for key, tensor in state.items() if not key.startswith(RECOMPUTED)}
    require_keys(
        missing=[key for key in wanted if key not in found],
        unexpected=[key for key in found if key not in wanted],
        misshapen=[
            f"{key}: {tuple(found[key].shape)}, needs {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in found and found[key].shape != tensor.shape
        ],
    )
    return layout, found


def dtype_of(key: str, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is kept as in a model of ``dtype``: rotation angles grow with position, half cannot hold them."""
    return torch.float32 if key.endswith(FREQUENCIES) else dtype


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ModelMismatch(
            f"expected a safetensors file, got {path.name}, which is none: {error}", code="checkpoint.unreadable"
        ) from None
