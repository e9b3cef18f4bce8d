"""A converted unCLIP's folder with another U-Net in it, such as a student of fewer steps.

Knows nothing of how the weights were made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mindsight.files.manifest import MANIFEST, files_in, sums_of_files, write_manifest
from mindsight.generators.unclip.sdxl.folder import CONFIG, KIND, UNET, read_folder
from mindsight.generators.unclip.sdxl.unet import build_unet
from mindsight.weights.conversion import DTYPE_NAMES, new_folder, size_of, write_streamed
from mindsight.weights.fit import require_fit


def write_with_unet(
    source: Path, out: Path, unet: Mapping[str, Tensor], dtype: torch.dtype, *, preset: str, **origin: str
) -> None:
    """Write the folder ``out``: that of ``source`` but for the U-Net's weights and the preset.

    unet : weights under diffusers' names
    preset : the sampler that they are made for
    origin : what the manifest records beside them

    Raises Conflict (``checkpoint.exists``), StorageFull, and ModelMismatch as ``load_unclip`` does for ``source``, for
    weights that do not fit it (``checkpoint.keys``), or for one that is not finite (``checkpoint.not_finite``).
    """
    layout = read_folder(source).unet_layout
    with torch.device("meta"):
        require_fit("the U-Net of the same architecture", unet, build_unet(layout).state_dict())
    kept = [name for name in files_in(source) if name not in (MANIFEST, CONFIG, UNET)]
    size = size_of(unet, lambda _: dtype) + sum((source / name).stat().st_size for name in kept)
    with new_folder(out, size) as folder:
        for name in kept:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
        config = json.loads((source / CONFIG).read_bytes()) | {"preset": preset}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        sums = sums_of_files(folder, [*kept, CONFIG])
        sums[UNET] = write_streamed(folder / UNET, unet, lambda _: dtype)
        write_manifest(folder, KIND, sums, dtype=DTYPE_NAMES[dtype], left_out=[], **origin)
