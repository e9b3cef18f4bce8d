"""``mindsight convert lora``: a published LoRA of SDXL is added to an unCLIP's weights, once and for all.

An unCLIP was made from SDXL. All its layers have SDXL's shapes but the keys and values of cross-attention, which read
other tokens: what a LoRA changes there cannot be added, and everything else must be. Knows nothing of sampling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mindsight.errors import ModelMismatch
from mindsight.files.manifest import files_in
from mindsight.generators.unclip.sdxl.folder import read_folder
from mindsight.generators.unclip.sdxl.lora_file import Factors, read_lora
from mindsight.generators.unclip.sdxl.names import unet_name
from mindsight.generators.unclip.sdxl.other_unet import described, write_with_unet
from mindsight.generators.unclip.sdxl.released import State
from mindsight.shares import Report, Shares, unreported
from mindsight.weights.conversion import digest_of_files

PRESET = "distilled"  # LoRAs for few steps have their guidance in them
_OF_TOKENS = re.compile(r".*\.attn2\.to_[kv]\.weight")
_LISTED = 3


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a LoRA's layers, by the U-Net's names, or the file's where the U-Net has none.

    skipped : of another shape; unknown : not in the U-Net
    """

    merged: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def convert_lora(lora: Path, source: Path, out: Path, report: Report = unreported) -> Merged:
    """Write the folder ``out``: ``source`` with the LoRA in its U-Net, to be sampled in few steps. The rest is copied.

    source : a folder of ``mindsight convert unclip``

    Raises Conflict (``checkpoint.exists``), StorageFull, ModelMismatch: ``checkpoint.*`` for a damaged folder or file,
    ``lora.keys`` if the file is no LoRA, ``lora.targets`` if it is another network's.
    """
    size = sum((source / name).stat().st_size for name in files_in(source))
    shares = Shares(report, 3 * size)  # it is checked, its layers are changed, it is written
    shares.add(f"checking {source.name}", 0)
    factors = read_lora(lora)
    before = described(source)
    read = read_folder(source)
    shares.add(f"adding {lora.name}", size)
    found = weights_of(factors, read.unet, read.unet_layout.resnets)
    fit = fitting(factors, found, read.unet)
    require_sdxl(lora.name, fit)
    own = {
        "file": lora.name,
        "sha256": digest_of_files([lora]),
        "merged": len(fit.merged),
        "skipped": len(fit.skipped),
    }
    weights = merged(read.unet, {found[name]: one for name, one in factors.items()}, fit)
    shares.add(f"checking {source.name} again", size)
    count = shares.of(f"writing {out.name}")
    write_with_unet(source, out, weights, {"preset": PRESET}, count, loras=[*before.get("loras", []), own])
    return fit


def weights_of(factors: Iterable[str], unet: State, resnets: int) -> dict[str, str | None]:
    """Layer of a LoRA -> the U-Net's weight, under diffusers' names or the released ones; None if it has none.

    resnets : residual blocks at each resolution on the way down
    """
    layers = {key.removesuffix(".weight").replace(".", "_"): key for key in unet if key.endswith(".weight")}
    found = {}
    for name in factors:
        flat = name.replace(".", "_").replace("add_embedding_", "class_embedding_")
        numbered = re.sub(r"(\.\d+)_", r"\1.", re.sub(r"_(?=\d+(?:_|$))", ".", flat))
        renamed = unet_name(f"{numbered}.weight", resnets)
        released = "" if renamed is None else renamed.removesuffix(".weight").replace(".", "_")
        found[name] = layers.get(flat, layers.get(released))
    return found


def fitting(factors: Mapping[str, Factors], found: Mapping[str, str | None], unet: State) -> Merged:
    """Which layers have the shape of their weight."""
    merged: list[str] = []
    skipped: list[str] = []
    unknown: list[str] = []
    for name, one in factors.items():
        key = found[name]
        if key is None:
            unknown.append(name)
            continue
        wanted = unet[key].flatten(1).shape if unet[key].ndim > 1 else None
        (merged if wanted == (len(one.up), one.down[0].numel()) else skipped).append(key)
    return Merged(tuple(merged), tuple(skipped), tuple(unknown))


def require_sdxl(name: str, report: Merged) -> None:
    """Raises ModelMismatch (``lora.targets``) if anything but the layers that read tokens cannot be added."""
    wrong = [key for key in report.skipped if not _OF_TOKENS.fullmatch(key)]
    if report.merged and not wrong and not report.unknown:
        return
    listed = [
        f"{len(keys)} {kind} ({', '.join(keys[:_LISTED])}{', ...' if len(keys) > _LISTED else ''})"
        for kind, keys in (("of another shape", wrong), ("that it does not have", report.unknown))
        if keys
    ]
    raise ModelMismatch(
        f"expected a LoRA for SDXL's U-Net, of which only keys and values of tokens do not fit, got {name} with"
        f" {len(report.merged)} layers that fit{''.join(f', {one}' for one in listed)}: choose one made for SDXL",
        code="lora.targets",
    )


def merged(unet: State, factors: Mapping[str | None, Factors], report: Merged) -> State:
    """The U-Net's weights with what the factors add, in float32 and then in each weight's dtype."""
    weights = dict(unet)
    for key in report.merged:
        old = unet[key]
        weights[key] = (old.float() + factors[key].added().reshape(old.shape)).to(old.dtype)
    return weights
