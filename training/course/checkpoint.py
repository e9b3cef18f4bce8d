"""Checkpoints of a run: folders that are there whole or not at all, and prove what they hold.

Knows nothing of networks: named tensors in, the same out. The newest two are kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mindsight.errors import Conflict
from mindsight.files.manifest import Proof, read_manifest, sums_of_files, verify_folder, write_manifest
from mindsight.weights.conversion import new_folder
from mindsight.weights.state_dict import read_safetensors, write_state_dict

_STATE, _RUN = "state.safetensors", "run.json"
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """step : how many the optimiser had made; state : named tensors"""

    step: int
    state: dict[str, Tensor]


def save_checkpoint(folder: Path, kind: str, step: int, run: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write ``folder/step-...``, and remove those before the last. Raises StorageFull.

    kind : of training, which the manifest states
    run : what the course of the run depends on
    """
    for begun in folder.glob(".step-*"):  # by a process that was killed while it wrote
        shutil.rmtree(begun)
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    size = sum(tensor.numel() * tensor.element_size() for tensor in held.values())
    with new_folder(folder / f"step-{step:08d}", size) as new:
        (new / _RUN).write_text(json.dumps({"step": step, "run": run}, indent=2, sort_keys=True) + "\n")
        write_state_dict(new / _STATE, held)
        write_manifest(new, kind, sums_of_files(new, (_RUN, _STATE)))
    for old in _all(folder)[:-_KEPT]:
        shutil.rmtree(old)


def newest_checkpoint(folder: Path, kind: str, run: Mapping[str, Any]) -> Checkpoint | None:
    """The last one of the run, None if there is none yet.

    Raises ModelMismatch (``checkpoint.unreadable``, ``.tampered``) if it is damaged, Conflict (``training.other_run``)
    if it is another run's.
    """
    found = _all(folder)
    if not found:
        return None
    newest = found[-1]
    remedy = f"remove the folder {newest.name}, and training continues from the checkpoint before it"
    proof = Proof("checkpoint", f"the checkpoint {newest.name}", remedy)
    verify_folder(proof, newest, read_manifest(proof, newest, kind))
    held = json.loads((newest / _RUN).read_bytes())
    if changed := [name for name in {**held["run"], **run} if held["run"].get(name) != run.get(name)]:
        listed = ", ".join(f"{name} {run.get(name)} in place of {held['run'].get(name)}" for name in changed)
        raise Conflict(
            f"expected the run that the checkpoint {newest.name} belongs to, got {listed}: restore these, or name"
            " another folder to start from the beginning",
            code="training.other_run",
        )
    return Checkpoint(int(held["step"]), read_safetensors(newest / _STATE))


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))
