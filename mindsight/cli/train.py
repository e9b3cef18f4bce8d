from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.become import become
from mindsight.cli.style import example

train_app = typer.Typer(
    help="Train models; repeating a command continues a run that was stopped.", no_args_is_help=True
)


@train_app.command("distil", epilog=example("mindsight train distil distil.toml"))
def distil(
    config: Annotated[Path, typer.Argument(help="TOML file; docs/distillation.md lists its keys")],
) -> None:
    """Distil an unCLIP into one of two to four steps, and measure it against its teacher."""
    become("train", "training.distillation", str(config))


@train_app.command(
    "pretrain",
    epilog=example("mindsight train pretrain nsd.toml", "mindsight train pretrain nsd.toml --export mindeye2/"),
)
def pretrain(
    config: Annotated[Path, typer.Argument(help="TOML file; docs/pretraining.md lists its keys")],
    export: Annotated[
        Path | None, typer.Option(help="folder for the model as the newest checkpoint has it; nothing is trained")
    ] = None,
) -> None:
    """Train MindEye2 on many subjects, or fine-tune it on one, and measure retrieval of held-out images."""
    become("train", "training.pretraining", str(config), *([] if export is None else ["--export", str(export)]))
