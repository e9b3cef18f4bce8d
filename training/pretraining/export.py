"""A trained model under the released key layout: for ``load_mindeye2``, ``mindsight convert mindeye2``, and the
reference's own code, whose strict load wants the noise schedule's thirteen tables as well.

Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindsight.decoders.mindeye2 import MindEye2
from mindsight.decoders.mindeye2.adapter import RECOMPUTED
from mindsight.decoders.mindeye2.convert import KIND, WEIGHTS
from mindsight.decoders.mindeye2.schedule import alphas_cumprod
from mindsight.files.manifest import sums_of_files, write_manifest
from mindsight.weights.conversion import new_folder
from mindsight.weights.state_dict import write_state_dict


def released_state(model: MindEye2, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Every tensor of a released checkpoint (``model_state_dict``), float32 on the host.

    weights : in place of the model's own, which may be in fewer bits
    """
    held = {**model.state_dict(), **(weights or {})}
    state = {key: tensor.detach().float().cpu().contiguous() for key, tensor in held.items()}
    return state | noise_tables() if model.prior is not None else state


def noise_tables() -> dict[str, Tensor]:
    """The buffers of the prior's schedule, (100,) each, that follow from its cosine (DALLE2-pytorch)."""
    kept = alphas_cumprod()
    before = np.append(1.0, kept[:-1])
    betas = 1 - kept / before
    variance = betas * (1 - before) / (1 - kept)
    tables = {
        "betas": betas,
        "alphas_cumprod": kept,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(kept),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - kept),
        "log_one_minus_alphas_cumprod": np.log(1 - kept),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / kept),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / kept - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(variance.clip(min=1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - kept),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - kept),
        "p2_loss_weight": np.ones_like(kept),
    }
    return {f"{RECOMPUTED}{name}": torch.from_numpy(table).float() for name, table in tables.items()}


def export(model: MindEye2, weights: Mapping[str, Tensor], out: Path, **described: Any) -> None:
    """Write the folder ``out``, which ``load_mindeye2`` verifies. Raises Conflict, StorageFull.

    weights : see ``released_state``
    described : what the manifest states beside the digest of the weights
    """
    state = released_state(model, weights)
    with new_folder(out, _size(state)) as partial:
        write_state_dict(partial / WEIGHTS, state)
        write_manifest(partial, KIND, sums_of_files(partial, (WEIGHTS,)), **described)


def _size(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
