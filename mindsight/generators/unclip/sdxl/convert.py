"""``mindsight convert unclip``: a released checkpoint becomes a folder in diffusers' layout, with a manifest.

Knows nothing of sampling. The image tower that the checkpoint carries becomes a file of its own, for candidate pools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mindsight.encoders.openclip import token_space
from mindsight.features import FeatureSpace
from mindsight.files.digest import sha256_of_file
from mindsight.files.manifest import write_manifest
from mindsight.generators.unclip.sdxl.folder import (
    CONFIG,
    KIND,
    TOWER,
    UNET,
    UNET_CONFIG,
    VAE,
    VAE_CONFIG,
    unet_config,
    vae_config,
)
from mindsight.generators.unclip.sdxl.released import SIZE_PX, Released, read_released
from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from mindsight.generators.unclip.sdxl.vae import VaeLayout, build_vae
from mindsight.shares import Count, Report, Shares, uncounted, unreported
from mindsight.weights.conversion import DTYPE_NAMES, digest_of_files, new_folder, size_of, write_streamed
from mindsight.weights.fit import require_fit
from mindsight.weights.state_dict import source_files


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What was written.

    dtype : of the U-Net and the autoencoder; the tower stays as it is, since its digest names the space of its tokens
    space : of the tokens, None if the checkpoint has no image tower
    left_out : keys that no part needs
    """

    dtype: str
    unet: UnetLayout
    vae: VaeLayout
    space: FeatureSpace | None
    left_out: tuple[str, ...]


def convert_unclip(
    source: Path,
    out: Path,
    dtype: torch.dtype = torch.float16,
    *,
    head_dim: int = 64,
    tower_model: str | Path = "ViT-bigG-14",
    size_px: int = SIZE_PX,
    report: Report = unreported,
) -> Converted:
    """Write the folder ``out``: ``unet/``, ``vae/``, ``tower.safetensors``, ``config.json`` and ``manifest.json``.

    tower_model : open_clip's configuration of the image tower, by which the space of its tokens is named
    size_px : edge of the images that the weights are made for

    Raises Conflict (``checkpoint.exists``), StorageFull, and ModelMismatch as ``load_unclip`` does, or
    ``checkpoint.not_finite`` if a weight is not finite in ``dtype``.
    """
    files = source_files(source)
    parts = read_released(source, head_dim)
    shares = Shares(report, sum(path.stat().st_size for path in files) + sum(_sizes(parts, dtype)))
    origin = {"source": source.name, "source_sha256": digest_of_files(files, shares.of(f"reading {source.name}"))}
    space = token_space(parts.tower, tower_model) if parts.tower else None
    described = Path(tower_model) if Path(tower_model).is_file() else None
    count = shares.of(f"writing {out.name}")
    return write_unclip(out, parts, dtype, space=space, size_px=size_px, described=described, count=count, **origin)


def write_unclip(
    out: Path,
    parts: Released,
    dtype: torch.dtype,
    *,
    space: FeatureSpace | None,
    size_px: int,
    described: Path | None = None,
    count: Count = uncounted,
    **origin: str,
) -> Converted:
    """The folder of these weights; see ``convert_unclip``.

    space : of the tokens
    described : the tower's configuration, if open_clip does not know it by the name in ``space``
    count : receives the bytes of each piece of weights that is written
    origin : what the manifest records beside them
    """
    with torch.device("meta"):
        require_fit("an SDXL U-Net", parts.unet, build_unet(parts.unet_layout).state_dict())
        require_fit("SDXL's autoencoder", parts.vae, build_vae(parts.vae_layout).state_dict())
    tower = {f"visual.{key}": tensor for key, tensor in parts.tower.items()}
    with new_folder(out, sum(_sizes(parts, dtype))) as folder:
        for name in (UNET, VAE):
            (folder / name).parent.mkdir()
        sums = {
            UNET_CONFIG: _write_json(folder / UNET_CONFIG, unet_config(parts.unet_layout, size_px)),
            UNET: write_streamed(folder / UNET, parts.unet, lambda _: dtype, count),
            VAE_CONFIG: _write_json(folder / VAE_CONFIG, vae_config(parts.vae_layout, size_px)),
            VAE: write_streamed(folder / VAE, parts.vae, lambda _: dtype, count),
            CONFIG: _write_json(folder / CONFIG, {"size_px": size_px, "space": space and space.to_json()}),
        }
        if tower:
            sums[TOWER] = write_streamed(folder / TOWER, tower, lambda key: tower[key].dtype, count)
        if described is not None:
            sums[described.name] = _write_json(folder / described.name, json.loads(described.read_bytes()))
        write_manifest(folder, KIND, sums, dtype=DTYPE_NAMES[dtype], left_out=list(parts.left_out), **origin)
    return Converted(
        dtype=DTYPE_NAMES[dtype], unet=parts.unet_layout, vae=parts.vae_layout, space=space, left_out=parts.left_out
    )


def _sizes(parts: Released, dtype: torch.dtype) -> list[int]:
    """Bytes that the U-Net, the autoencoder and the image tower will take; the tower keeps its dtype."""
    tower = size_of(parts.tower, lambda key: parts.tower[key].dtype)
    return [size_of(parts.unet, lambda _: dtype), size_of(parts.vae, lambda _: dtype), tower]


def _write_json(path: Path, document: Mapping[str, Any]) -> str:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return sha256_of_file(path)
