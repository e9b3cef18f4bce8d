"""How every command prints: a result for a person, as lines or a table, or as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

PIPE_WIDTH = 200  # of a table that goes to a file: nothing is cut there
LOST = 3
"""Exit code of a stream that finished without something that arrived or should have arrived; of a backup of a data
folder in which something had been damaged. It went on to its end, so that it is neither done nor failed."""
STOPPED = 130
JOB_FAILED = "refused or failed, with one line on stderr, or the job failed or was cancelled"
JOB_STOPPED = "interrupted; a job of the service goes on"

AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON, for programs")]


def example(*lines: str, **codes: str) -> str:
    """The epilog of a command's help: commands that a person may type, and its exit codes.

    codes : their meanings, see ``exit_codes``
    """
    return "\n\n".join(["Example:" if len(lines) == 1 else "Examples:", *lines, exit_codes(**codes)])


def exit_codes(
    *,
    done: str = "done",
    failed: str = "refused or failed, with one line on stderr",
    usage: str = "wrong command line",
    lost: str = "",
    stopped: str = "interrupted",
) -> str:
    """The meanings of 0, 1, 2, 3 and 130. lost : empty for a command that never ends with 3"""
    meanings = {0: done, 1: failed, 2: usage, LOST: lost, STOPPED: stopped}
    return f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in meanings.items() if meaning)}."


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
