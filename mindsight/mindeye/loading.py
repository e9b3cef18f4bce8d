"""Reading a MindEye2 checkpoint, the released files or our own, without ever unpickling code.

Knows nothing of downloads: the file lies where it lies, and is memory-mapped, so that reading it costs no second copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.mindeye.layout import infer_layout, require_keys
from mindsight.mindeye.model import MindEye2
from mindsight.mindeye.transformer import rotary_frequencies

_FREQUENCIES = ".rotary_emb.freqs"


def load_mindeye2(source: Path | str | Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> MindEye2:
    """Build the model a checkpoint describes, all dimensions from its keys, ready to decode (``eval``).

    Parameters
    ----------
    source
        A ``.safetensors`` file, a ``.pth`` file as the reference writes it (``model_state_dict`` inside, or bare), or
        a state dict. Tensors that already have ``dtype`` are not copied.

    Raises
    ------
    ModelMismatch
        Keys are missing, unexpected or misshapen; the message lists them.
    """
    state = dict(source) if isinstance(source, Mapping) else read_state_dict(Path(source))
    layout = infer_layout(state)
    with torch.device("meta"):
        model = MindEye2(layout)
    wanted = model.state_dict()
    # the noise schedule follows from its definition, and so do rotary frequencies where a file leaves them out
    state = {key: tensor for key, tensor in state.items() if not key.startswith("diffusion_prior.noise_scheduler.")}
    recomputed = {
        key: rotary_frequencies(2 * len(tensor)) for key, tensor in wanted.items() if key.endswith(_FREQUENCIES)
    }
    state = recomputed | state
    require_keys(
        missing=[key for key in wanted if key not in state],
        unexpected=[key for key in state if key not in wanted],
        misshapen=[
            f"{key}: {tuple(state[key].shape)}, needs {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in state and state[key].shape != tensor.shape
        ],
    )
    # rotation angles grow with position: half precision would not hold them
    kept = {key: tensor.to(torch.float32 if key.endswith(_FREQUENCIES) else dtype) for key, tensor in state.items()}
    model.load_state_dict(kept, assign=True)
    return model.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint file, memory-mapped; optimizer state and the like are left where they are.

    Raises
    ------
    ModelMismatch
        The file is no checkpoint that can be read without running code.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ModelMismatch(f"expected a safetensors file, got {path.name}, which is none: {error}") from None
    return _read_pth(path)


def _read_pth(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError) as error:
        raise ModelMismatch(
            f"expected a checkpoint of tensors, got {path.name}, which cannot be read as one: {error}"
        ) from None
    state = held.get("model_state_dict", held) if isinstance(held, dict) else {}
    return {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
