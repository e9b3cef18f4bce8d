from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.style import LOST, AsJson, show
from mindsight.progress import Progress

MEGABYTE = 1e6


def backup(
    folder: Annotated[Path, typer.Argument(help="a new folder, or that of an earlier backup")], as_json: AsJson = False
) -> None:
    """Copy the data folder, while the service runs or not.

    Into the folder of an earlier backup only what is new is copied, and what was erased since is removed; what is
    there is read, and copied again if it was damaged.
    """
    from mindsight.operations.backup import back_up
    from mindsight.settings import read_settings

    settings = read_settings()
    with Progress(quiet=as_json) as progress:
        made = back_up(settings, folder, lambda done, of: progress("files are copied", done / of))
    size = f"{made.n_bytes / MEGABYTE:.0f} MB"
    own = (
        "" if settings.redis_url == "embedded://" else "; the bus of MINDSIGHT_REDIS_URL is not in it: back it up, too"
    )
    bucket = f"; payloads are in {made.blobs_url} and not in it: copy the bucket now" if made.blobs_url else ""
    show(
        f"{made.n_files} files, {size}, of which {made.n_new} files were copied now: {folder}{own}{bucket}",
        asdict(made),
        as_json,
    )
    if made.damaged:
        n = len(made.damaged)
        print(
            f"{n} {'payload' if n == 1 else 'payloads'} of the data folder had been damaged before, and no earlier copy"
            f" was there: {', '.join(made.damaged[:3])}{' ...' if n > 3 else ''}; another backup may have them whole",
            file=sys.stderr,
        )
        raise typer.Exit(LOST)


def restore(folder: Annotated[Path, typer.Argument(help="of a backup")], as_json: AsJson = False) -> None:
    """Make an empty data folder what it was at a backup. Stop the service before; every file is checked."""
    from mindsight.operations.backup import restore as restore_
    from mindsight.settings import read_settings

    settings = read_settings()
    with Progress(quiet=as_json) as progress:
        made = restore_(settings, folder, lambda done, of: progress("files are checked", done / of))
    size = f"{made.n_bytes / MEGABYTE:.0f} MB"
    bucket = f", with MINDSIGHT_BLOBS_URL where the payloads are (then {made.blobs_url})" if made.blobs_url else ""
    show(f"{made.n_files} files, {size}, are in {settings.data_dir}: start the service{bucket}", asdict(made), as_json)
