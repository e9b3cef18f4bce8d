"""A network's state dict, read from whatever file holds it, without running code; and written as safetensors.

Tensors are memory-mapped: what is not used is not read, and reading costs no copy. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.weights.tensors import disk_errors
from mindsight.weights.torchfile import read_torch_file
from mindsight.weights.zero import MODEL_STATES, find_zero_folder, read_zero, zero_files

_WRAPPERS = ("model_state_dict", "state_dict")  # MindEye2's training script; open_clip's and others'


def source_files(path: Path) -> list[Path]:
    """The files that ``read_state_dict`` reads: the file itself, or those of a DeepSpeed folder.

    Raises ModelMismatch (``checkpoint.missing``) if there is neither.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise ModelMismatch(
            f"expected a file of weights, {path.name} does not exist: check the path", code="checkpoint.missing"
        )
    folder = find_zero_folder(path) if path.is_dir() else None
    if folder is None:
        raise ModelMismatch(
            f"expected a checkpoint file or a DeepSpeed folder with {MODEL_STATES}, {path.name} is neither: check the "
            "path",
            code="checkpoint.missing",
        )
    return zero_files(folder)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, of a file of ``torch.save``, or of a DeepSpeed folder.

    Optimizer state and whatever else a file of ``torch.save`` holds beside the state dict are left out.

    Raises ModelMismatch (``checkpoint.missing``, ``checkpoint.unreadable``, ``checkpoint.zero``).
    """
    first = source_files(path)[0]
    if path.is_dir():
        return read_zero(first.parent)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    held = read_torch_file(path)
    state = next((held[name] for name in _WRAPPERS if name in held), held)
    if not isinstance(state, Mapping):
        raise ModelMismatch(
            f"expected a state dict in {path.name}, got a {type(state).__name__}", code="checkpoint.unreadable"
        )
    return {key: tensor for key, tensor in state.items() if isinstance(key, str) and isinstance(tensor, Tensor)}


def read_safetensors(path: Path, *, code: str = "checkpoint.unreadable") -> dict[str, Tensor]:
    """Every tensor of the file. Raises ModelMismatch under ``code`` if it is missing or is none."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelMismatch(
            f"expected a safetensors file, got {path.name}, which cannot be read as one: {error}", code=code
        ) from None


def write_state_dict(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write contiguous tensors, none of which shares memory with another, to a ``.safetensors`` file, all or nothing.

    Raises StorageFull.
    """
    with disk_errors():
        save_file(dict(state), path)
