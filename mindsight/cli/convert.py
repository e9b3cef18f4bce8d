from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mindsight.extras import need_server

convert_app = typer.Typer(help="Convert released weights to safetensors with a manifest.", no_args_is_help=True)


@convert_app.command("mindeye2")
def convert_mindeye2(
    checkpoint: Annotated[Path, typer.Argument(help="last.pth, .safetensors, or a DeepSpeed folder")],
    out: Annotated[Path, typer.Argument(help="new folder for the weights and their manifest")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"],
        typer.Option(help="of the written weights; float16 and bfloat16 take half the space"),
    ] = "float32",
) -> None:
    """Convert any released MindEye2 checkpoint; all dimensions come from its keys. No code in the file is run."""
    need_server("mindsight convert")
    import torch

    from mindsight.decoders.mindeye2 import convert_mindeye2 as convert

    done = convert(checkpoint, out, getattr(torch, dtype))
    who = ", ".join(f"{s.voxels:,} voxels" + (f" (NSD {s.nsd})" if s.nsd else "") for s in done.subjects)
    typer.echo(
        f"{out}: {len(done.subjects)} subject{'s' if len(done.subjects) > 1 else ''}: {who}\n"
        f"hidden {done.layout['hidden']}, {done.layout['tokens']} tokens of {done.layout['dim']}, {done.dtype}; "
        f"{len(done.dropped)} keys left out, which are recomputed"
    )
