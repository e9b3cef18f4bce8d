"""A converted unCLIP's folder with other weights in its U-Net: with a LoRA in them, or a student's of fewer steps.

Knows nothing of how the weights were made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mindsight.files.digest import sha256_of_file
from mindsight.files.manifest import MANIFEST, files_in, read_manifest, verify_folder, write_manifest
from mindsight.generators.unclip.sdxl.folder import CONFIG, KIND, PROOF, UNET, VERIFIED, read_folder
from mindsight.generators.unclip.sdxl.released import State
from mindsight.generators.unclip.sdxl.unet import build_unet
from mindsight.shares import Count, uncounted
from mindsight.weights.conversion import new_folder, write_streamed
from mindsight.weights.fit import require_fit


def described(source: Path) -> dict[str, Any]:
    """What the manifest of a folder says beside the digests. Raises ModelMismatch (``checkpoint.unreadable``)."""
    read_manifest(PROOF, source, KIND)
    held = json.loads((source / MANIFEST).read_bytes())
    return {key: value for key, value in held.items() if key not in ("format", "kind", "sha256")}


def write_with_unet(
    source: Path,
    out: Path,
    unet: State,
    config: Mapping[str, Any] | None = None,
    count: Count = uncounted,
    **more: Any,
) -> None:
    """Write the folder ``out``: ``source`` with these weights, each in its own dtype. The rest of it is copied.

    source : a folder of ``mindsight convert unclip``
    unet : under diffusers' names
    config : what changes in ``config.json``
    count : receives the bytes of each file that is copied, and of each piece of the U-Net that is written
    more : what the manifest says beside what that of ``source`` does

    Raises Conflict (``checkpoint.exists``), StorageFull, and ModelMismatch: as ``load_unclip`` does for ``source``, for
    weights that do not fit it (``checkpoint.keys``), or for one that is not finite (``checkpoint.not_finite``).
    """
    sums = read_manifest(PROOF, source, KIND)
    layout = read_folder(source).unet_layout
    verify_folder(PROOF, source, sums, only=set(sums) - set(VERIFIED))
    with torch.device("meta"):
        require_fit("a U-Net of the same architecture", unet, build_unet(layout).state_dict())
    names = files_in(source)  # also those that were put there later, such as the autoencoder of previews
    with new_folder(out, sum((source / name).stat().st_size for name in names)) as folder:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name not in (UNET, MANIFEST):
                shutil.copyfile(source / name, folder / name)
                count((folder / name).stat().st_size)
        sums[UNET] = write_streamed(folder / UNET, unet, lambda key: unet[key].dtype, count)
        if config:
            changed = json.loads((source / CONFIG).read_bytes()) | dict(config)
            (folder / CONFIG).write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n")
            sums[CONFIG] = sha256_of_file(folder / CONFIG)
        write_manifest(folder, KIND, sums, **described(source) | more)
