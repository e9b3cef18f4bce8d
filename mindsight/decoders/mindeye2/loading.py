"""``load_mindeye2``: from a checkpoint, in any of its forms, to a model that decodes.

Knows nothing of what the files look like.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mindsight.decoders.mindeye2.adapter import dtype_of, fitting_state
from mindsight.decoders.mindeye2.convert import is_converted, verified_weights
from mindsight.decoders.mindeye2.model import MindEye2
from mindsight.weights.state_dict import read_state_dict


def load_mindeye2(source: Path | str | Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> MindEye2:
    """Build the model a checkpoint describes, all dimensions from its keys, ready to decode (``eval``).

    source : a folder that ``mindsight convert mindeye2`` wrote, whose digests are verified; a ``.safetensors`` file; a
        ``.pth`` file as the reference writes it (``model_state_dict`` inside, or bare); a DeepSpeed folder; or a state
        dict. Tensors that already have ``dtype`` are not copied.

    Raises ModelMismatch: nothing is there (``checkpoint.missing``), it cannot be read without running code
    (``checkpoint.unreadable``), it is of another format or kind (``checkpoint.version``), it was changed
    (``checkpoint.tampered``), or keys are missing, unexpected or misshapen (``checkpoint.keys``): the message lists
    them.
    """
    layout, state = fitting_state(source if isinstance(source, Mapping) else _read(Path(source)))
    with torch.device("meta"):
        model = MindEye2(layout)
    model.load_state_dict({key: tensor.to(dtype_of(key, dtype)) for key, tensor in state.items()}, assign=True)
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    return read_state_dict(verified_weights(path) if is_converted(path) else path)
