from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.style import AsJson, show
from mindsight.extras import need_server


def report(
    archive: Annotated[Path, typer.Argument(help="a session's archive, in MINDSIGHT_DATA_DIR/archive")],
    out: Annotated[Path | None, typer.Option(help="file for the page; default: its place in the archive")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a session's report again: quality, motion, accuracy by stage, latency, pictures, methods, versions.

    The service makes one for every session that it archives; the page loads nothing from elsewhere.
    """
    need_server("mindsight report")
    from mindsight.evaluation.visit_report import write_report
    from mindsight.progress import Progress

    with Progress(quiet=as_json) as progress:
        progress(f"reading {archive.name}", 0.0)
        file = write_report(archive, out)
    show(str(file), {"file": str(file)}, as_json)
