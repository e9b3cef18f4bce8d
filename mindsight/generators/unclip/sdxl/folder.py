"""A folder in diffusers' layout, ``unet/`` and ``vae/``, as it is published and as ``mindsight convert`` writes it.

Knows nothing of the released files. What was converted also has a manifest, whose digests are verified, a
``config.json`` with what neither network knows, and the image tower in ``tower.safetensors``, beside it the tower's own
configuration if open_clip does not know it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindsight.encoders.openclip import OpenClipEncoder, configuration_of
from mindsight.errors import ModelMismatch
from mindsight.features import FeatureSpace
from mindsight.files.digest import sha256_of_json
from mindsight.files.manifest import MANIFEST, Proof, read_manifest, verify_folder
from mindsight.generators.sampling.presets import PRESETS
from mindsight.generators.unclip.sdxl.released import Parts, State
from mindsight.generators.unclip.sdxl.unet import UnetLayout
from mindsight.generators.unclip.sdxl.vae import SCALING, VaeLayout
from mindsight.weights.device import Placement
from mindsight.weights.state_dict import read_safetensors

KIND, CONFIG, TOWER = "unclip", "config.json", "tower.safetensors"
UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
UNET_CONFIG, VAE_CONFIG = "unet/config.json", "vae/config.json"
VERIFIED = (CONFIG, UNET_CONFIG, UNET, VAE_CONFIG, VAE)
PIXELS_PER_CELL = 8
PROOF = Proof("checkpoint", "an unCLIP's weights", "restore the folder or convert the checkpoint again")
_STEMS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
_SHARDS = "diffusion_pytorch_model-*-of-*.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Read(Parts):
    """What a folder holds.

    space : of the tokens, None if it is not recorded
    digest : of what was verified, empty without a manifest
    preset : the sampler that the weights are made for, None if they are for any
    """

    space: FeatureSpace | None
    digest: str
    preset: str | None = None


def is_folder(path: Path) -> bool:
    return (path / UNET_CONFIG).is_file()


def read_folder(folder: Path) -> Read:
    """Raises ModelMismatch (``checkpoint.unreadable``, ``.version``, ``.tampered``, ``.missing``, ``.keys``)."""
    described: dict[str, Any] = {}
    digest = ""
    if (folder / MANIFEST).is_file():
        sums = read_manifest(PROOF, folder, KIND)
        verify_folder(PROOF, folder, sums, only=VERIFIED)
        described, digest = _json(folder / CONFIG), sha256_of_json({name: sums[name] for name in VERIFIED})
    unet, vae = _json(folder / UNET_CONFIG), _json(folder / VAE_CONFIG)
    try:
        space = None if described.get("space") is None else FeatureSpace.from_json(described["space"])
        return Read(
            unet_layout=_unet_layout(unet),
            unet=_projection_names(_weights(folder / "unet")),
            vae_layout=_vae_layout(vae),
            vae=_weights(folder / "vae"),
            size_px=int(described.get("size_px") or PIXELS_PER_CELL * _number(unet, "sample_size")),
            space=space,
            digest=digest,
            preset=_preset(described),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelMismatch(
            f"expected configurations of an SDXL U-Net and its autoencoder, got some that differ at {error}: choose a"
            " folder of SDXL or of an unCLIP made from it",
            code="checkpoint.unreadable",
        ) from None


def read_tower(folder: Path, placement: Placement) -> OpenClipEncoder:
    """The image tower, on a device: the encoder of the tokens that the weights were trained with.

    Raises ModelMismatch (``generator.encoder`` without one, and what ``ImageTower.load`` raises).
    """
    described = _json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if not described.get("space") or not (folder / TOWER).is_file():
        raise ModelMismatch(
            f"expected the image tower in {TOWER} of {folder.name}, got none: convert a checkpoint that carries it",
            code="generator.encoder",
        )
    model = configuration_of(FeatureSpace.from_json(described["space"]))
    own = folder / f"{model}.json"
    configuration = own if own.is_file() else model
    return OpenClipEncoder.load(folder / TOWER, configuration, device=placement.device, dtype=placement.dtype)


def unet_config(layout: UnetLayout, size_px: int) -> dict[str, Any]:
    """What diffusers reads the U-Net with."""
    return {"_class_name": "UNet2DConditionModel", "sample_size": size_px // PIXELS_PER_CELL, **layout.to_diffusers()}


def vae_config(layout: VaeLayout, size_px: int) -> dict[str, Any]:
    """What diffusers reads the autoencoder with."""
    return {"_class_name": "AutoencoderKL", "sample_size": size_px, **layout.to_diffusers()}


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PROOF.unreadable(path.name, f"one that cannot be read ({type(error).__name__})") from None


def _weights(folder: Path) -> State:
    """The tensors of one file, or of its parts. Raises ModelMismatch (``checkpoint.missing``, ``.unreadable``)."""
    whole = [folder / name for name in _STEMS if (folder / name).is_file()][:1]
    files = whole or sorted(folder.glob(_SHARDS))
    if not files:
        raise ModelMismatch(
            f"expected {_STEMS[0]} or its parts in {folder.name}/, there is none: download the safetensors files",
            code="checkpoint.missing",
        )
    return {key: tensor for path in files for key, tensor in read_safetensors(path).items()}


def _projection_names(state: State) -> State:
    """SDXL's text-and-time embedding under the name that the projection form has for the same two layers."""
    return {key.replace("add_embedding.", "class_embedding.", 1): tensor for key, tensor in state.items()}


def _unet_layout(config: Mapping[str, Any]) -> UnetLayout:
    """What the weights' shapes do not contradict; raises KeyError, TypeError or ValueError if something is missing."""
    widths = tuple(int(width) for width in config["block_out_channels"])
    heads = config.get("num_attention_heads") or config["attention_head_dim"]  # diffusers' names for one thing
    heads = [heads] * len(widths) if isinstance(heads, int) else heads
    depths = config["transformer_layers_per_block"]
    depths = [depths] * len(widths) if isinstance(depths, int) else depths
    if config["_class_name"] != "UNet2DConditionModel":
        raise ValueError(f"_class_name ({config['_class_name']}, needs UNet2DConditionModel)")
    return UnetLayout(
        widths=widths,
        depths=tuple(
            int(depth) if kind.startswith("CrossAttn") else 0
            for depth, kind in zip(depths, config["down_block_types"], strict=True)
        ),
        head_dim=widths[-1] // int(heads[-1]),
        resnets=_number(config, "layers_per_block"),
        token_dim=_number(config, "cross_attention_dim"),
        vector_dim=_number(config, "projection_class_embeddings_input_dim"),
        channels=_number(config, "in_channels"),
    )


def _preset(config: Mapping[str, Any]) -> str | None:
    name = config.get("preset")
    if name is not None and name not in PRESETS:
        raise ValueError(f"preset ({name!r}, needs one of {', '.join(PRESETS)})")
    return name


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise ValueError(f"{name} ({value!r}, needs a whole number)")
    return value


def _vae_layout(config: Mapping[str, Any]) -> VaeLayout:
    """Raises KeyError, TypeError or ValueError if it is not an SDXL autoencoder's."""
    if config["scaling_factor"] != SCALING:
        raise ValueError(f"scaling_factor ({config['scaling_factor']}, SDXL's autoencoder has {SCALING})")
    return VaeLayout(
        widths=tuple(int(width) for width in config["block_out_channels"]),
        resnets=_number(config, "layers_per_block"),
        channels=_number(config, "latent_channels"),
    )
