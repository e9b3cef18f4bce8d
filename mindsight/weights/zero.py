"""Reads weights from a DeepSpeed checkpoint folder (ZeRO stages 1 and 2), where the optimizers' shards hold them.

Knows nothing of MindEye2, and needs no DeepSpeed.

The folder (tag ``last`` in the reference's runs) has ``mp_rank_00_model_states.pt``, the weights as the forward pass
uses them (half precision) with the shapes of what is trained, and one ``*zero_pp_rank_{r}_mp_rank_00_optim_states.pt``
for each process, which holds the r-th part of one flat float32 vector per parameter group. The parts, concatenated and
cut in the order of the shapes, are the trained weights; frozen ones and buffers are in the first file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import ModelMismatch
from mindsight.weights.torchfile import read_torch_file

MODEL_STATES = "mp_rank_00_model_states.pt"
_STAGES = ("ZeRO of stage 1 or 2", "one of stage 3: write one file with DeepSpeed's zero_to_fp32 first")
_TAG = re.compile(r"\w[\w.-]*")
_SHARD = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt$")


def find_zero_folder(folder: Path) -> Path | None:
    """The folder itself or the checkpoint in it that ``latest`` names, or ``last``; None if there is none.

    Raises ModelMismatch (``checkpoint.zero``) for stage 3, where the weights themselves are split over the processes.
    """
    latest = folder / "latest"
    tag = latest.read_text(encoding="utf-8", errors="replace").strip() if latest.is_file() else "last"
    if not _TAG.fullmatch(tag):
        raise _unsupported("the name of a folder in its file latest", "something else")
    for candidate in (folder, folder / tag):
        if (candidate / MODEL_STATES).is_file():
            return candidate
        if any(candidate.glob(f"zero_pp_rank_*_{MODEL_STATES}")):
            raise _unsupported(*_STAGES)
    return None


def zero_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that weights are read from: the model's, then the shards by rank.

    Raises ModelMismatch (``checkpoint.zero``) for a model cut over several processes and for missing ranks.
    """
    if (folder / "mp_rank_01_model_states.pt").exists():
        raise _unsupported("a model that is not cut into parts", "one of several (mp_rank_01)")
    shards = {int(found[1]): path for path in folder.iterdir() if (found := _SHARD.search(path.name))}
    missing = set(range(len(shards))) - set(shards)
    if missing:
        raise _unsupported("the optimizer's part of every rank", f"none of rank {', '.join(map(str, sorted(missing)))}")
    return [folder / MODEL_STATES, *(shards[rank] for rank in sorted(shards))]


def read_zero(folder: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint folder: float32 if there are shards, otherwise the dtype of the model's file.

    Raises ModelMismatch (``checkpoint.zero``) for stage 3 and for parts that do not fit their shapes.
    """
    try:
        return _read(*zero_files(folder))
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError) as error:
        raise _unsupported("the parts that DeepSpeed writes", f"others ({type(error).__name__}: {error})") from None


def _read(model_file: Path, *shard_files: Path) -> dict[str, Tensor]:
    held = read_torch_file(model_file)
    module: dict[str, Tensor] = {
        key: tensor for key, tensor in (held.get("module") or {}).items() if isinstance(tensor, Tensor)
    }
    if not shard_files:
        return module
    state = {key: module[key] for key in held.get("buffer_names") or () if key in module}
    state |= dict(held.get("frozen_param_fragments") or {})
    parts_by_rank = [_parts(path, len(shard_files)) for path in shard_files]
    shapes_by_group = held.get("param_shapes") or []
    if len(shapes_by_group) != len(parts_by_rank[0]):
        raise _unsupported(f"shapes for {len(parts_by_rank[0])} parameter groups", f"shapes for {len(shapes_by_group)}")
    for group, shapes in enumerate(shapes_by_group):
        state |= _cut([parts[group] for parts in parts_by_rank], shapes)
    shared = held.get("shared_params") or {}
    for alias, key in shared.items() if isinstance(shared, dict) else shared:
        if key in state:
            state[alias] = state[key]
    return state


def _parts(path: Path, n_ranks: int) -> list[Tensor]:
    """One rank's part of each group's flat vector."""
    optimizer = read_torch_file(path).get("optimizer_state_dict")
    if not isinstance(optimizer, dict) or optimizer.get("zero_stage", 2) > 2:
        raise _unsupported(*_STAGES)
    counts = optimizer.get("partition_count", n_ranks)
    if (count := max(counts) if isinstance(counts, list) else counts) != n_ranks:
        raise _unsupported(f"the optimizer's parts of {count} ranks", f"{n_ranks} files")
    return list(optimizer["single_partition_of_fp32_groups"])


def _cut(parts: list[Tensor], shapes: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that the parts hold one after the other. Only those that cross from part to part are copied."""
    held, needed = sum(part.numel() for part in parts), sum(math.prod(shape) for shape in shapes.values())
    # parts are padded so that all are equally long, and twice their number divides them
    step = 2 * len(parts)
    if -(-needed // step) != -(-held // step):
        raise _unsupported(f"{needed} numbers of {len(shapes)} parameters", f"{held}")
    tensors = {}
    rest = [part.detach().reshape(-1) for part in parts]
    for key, shape in shapes.items():
        wanted, pieces = math.prod(shape), []
        while wanted:
            piece, rest[0] = rest[0][:wanted], rest[0][wanted:]
            pieces.append(piece)
            wanted -= piece.numel()
            if not rest[0].numel():
                del rest[0]
        tensors[key] = (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).reshape(shape)
    return tensors


def _unsupported(expected: str, got: str) -> ModelMismatch:
    return ModelMismatch(f"expected a DeepSpeed checkpoint with {expected}, got {got}", code="checkpoint.zero")
