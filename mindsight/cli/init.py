from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    file: Annotated[Path, typer.Argument(help="file to write; one that exists is left as it is")] = Path(
        "mindsight.env"
    ),
) -> None:
    """Write a file of all settings, each with its default and what it is for."""
    from mindsight.errors import Conflict
    from mindsight.files.durable import write_durably
    from mindsight.operations.configuration import configuration

    if file.exists():
        raise Conflict(f"expected a new file, {file} exists: edit it, or name another", code="file.exists")
    write_durably(file, configuration().encode())
    typer.echo(f"{file}: edit it, then mindsight doctor")
