from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.style import AsJson


def inspect(
    path: Annotated[Path, typer.Argument(help="a scanner's files: one file, or a folder of one or several series")],
    as_json: AsJson = False,
) -> None:
    """Describe scans: matrix, TR, slice times, runs, what is left out and why, whether decoding can begin."""
    from mindsight.cli.survey_table import facts, print_survey
    from mindsight.scanner.survey import survey

    found = survey(path)
    if as_json:
        typer.echo(json.dumps(facts(found), indent=2))
    else:
        print_survey(found)
    if not found.can_decode:
        raise typer.Exit(1)
