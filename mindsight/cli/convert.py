from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mindsight.cli.style import AsJson, example, show
from mindsight.extras import need_server
from mindsight.progress import Progress

convert_app = typer.Typer(help="Convert released weights to safetensors with a manifest.", no_args_is_help=True)


@convert_app.command("mindeye2", epilog=example("mindsight convert mindeye2 last.pth mindeye2/ --dtype float16"))
def convert_mindeye2(
    checkpoint: Annotated[Path, typer.Argument(help="last.pth, .safetensors, or a DeepSpeed folder")],
    out: Annotated[Path, typer.Argument(help="new folder for the weights and their manifest")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"],
        typer.Option(help="of the written weights; float16 and bfloat16 take half the space"),
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Convert any released MindEye2 checkpoint; all dimensions come from its keys. No code in the file is run."""
    need_server("mindsight convert")
    import torch

    from mindsight.decoders.mindeye2 import convert_mindeye2 as convert

    with Progress(quiet=as_json) as progress:
        progress(f"reading {checkpoint.name}", 0.0)
        done = convert(checkpoint, out, getattr(torch, dtype), progress)
    who = ", ".join(f"{s.voxels:,} voxels" + (f" (NSD {s.nsd})" if s.nsd else "") for s in done.subjects)
    text = (
        f"{out}: {len(done.subjects)} subject{'s' if len(done.subjects) > 1 else ''}: {who}\n"
        f"hidden {done.layout['hidden']}, {done.layout['tokens']} tokens of {done.layout['dim']}, {done.dtype}; "
        f"{len(done.dropped)} keys left out, which are recomputed"
    )
    voxels = [subject.voxels for subject in done.subjects]
    show(text, {"folder": str(out), "voxels": voxels, "layout": dict(done.layout), "dtype": str(done.dtype)}, as_json)


@convert_app.command("unclip", epilog=example("mindsight convert unclip unclip6_epoch0_step110000.ckpt unclip/"))
def convert_unclip(
    checkpoint: Annotated[Path, typer.Argument(help="unclip6_epoch0_step110000.ckpt, or its safetensors")],
    out: Annotated[Path, typer.Argument(help="new folder for the weights and their manifest")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"],
        typer.Option(help="of the written U-Net and autoencoder; the image tower stays as it is"),
    ] = "float16",
    head_dim: Annotated[int, typer.Option(help="width of an attention head (num_head_channels in the YAML)")] = 64,
    size_px: Annotated[int, typer.Option(help="edge of the images that the weights are made for")] = 768,
    tower: Annotated[str, typer.Option(help="open_clip's configuration of the image tower, or a JSON file")] = (
        "ViT-bigG-14"
    ),
    as_json: AsJson = False,
) -> None:
    """Convert a released SDXL unCLIP to diffusers' layout; dimensions come from its shapes. No code in it is run."""
    need_server("mindsight convert")
    import torch

    from mindsight.generators.unclip.sdxl.convert import convert_unclip as convert

    written = getattr(torch, dtype)
    with Progress(quiet=as_json) as progress:
        progress(f"reading {checkpoint.name}", 0.0)
        done = convert(checkpoint, out, written, head_dim=head_dim, tower_model=tower, size_px=size_px, report=progress)
    tokens = (
        "no image tower, so it cannot be used as a generator"
        if done.space is None
        else (f"tokens {done.space.name}, {' of '.join(map(str, done.space.shape))}, encoder {done.space.encoder[:12]}")
    )
    text = (
        f"{out}: U-Net of widths {done.unet.widths} with tokens of {done.unet.token_dim}, {done.dtype}; {tokens}; "
        f"{len(done.left_out)} keys left out"
    )
    facts = {
        "folder": str(out),
        "dtype": str(done.dtype),
        "space": None if done.space is None else done.space.to_json(),
    }
    show(text, facts | {"left_out": len(done.left_out)}, as_json)


@convert_app.command("lora", epilog=example("mindsight convert lora sdxl-lightning.safetensors unclip/ unclip-4/"))
def convert_lora(
    lora: Annotated[Path, typer.Argument(help="LoRA of SDXL for few steps, safetensors")],
    unclip: Annotated[Path, typer.Argument(help="folder of mindsight convert unclip")],
    out: Annotated[Path, typer.Argument(help="new folder for the unCLIP with the LoRA in its weights")],
    as_json: AsJson = False,
) -> None:
    """Add a LoRA of SDXL to an unCLIP's U-Net, but for the keys and values of its tokens, which have another width."""
    need_server("mindsight convert")
    from mindsight.generators.unclip.sdxl.lora import convert_lora as convert

    with Progress(quiet=as_json) as progress:
        done = convert(lora, unclip, out, progress)
    text = (
        f"{out}: {len(done.merged)} layers changed, {len(done.skipped)} skipped (keys and values of tokens of another"
        " width), none unknown; its preset is distilled: 2 to 4 steps without guidance"
    )
    show(text, {"folder": str(out), "changed": len(done.merged), "skipped": len(done.skipped)}, as_json)
