"""How every command prints: a result for a person, as lines or a table, or as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

PIPE_WIDTH = 200  # of a table that goes to a file: nothing is cut there

AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON, for programs")]


def example(*lines: str) -> str:
    """The epilog of a command's help: commands that a person may type."""
    return "\n\n".join(["Example:" if len(lines) == 1 else "Examples:", *lines])


def show(text: str, facts: Any, as_json: bool) -> None:
    """A result: ``text`` for a person, ``facts`` for a program."""
    typer.echo(json.dumps(facts, indent=2) if as_json else text)


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], facts: Any, as_json: bool, none: str) -> None:
    """A list: as a table for a person, ``facts`` for a program. none : what to say, and do, where it is empty"""
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    elif not rows:
        typer.echo(none)
    else:
        _table(columns, rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
