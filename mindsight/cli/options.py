"""What several commands share: options, and how an option's text is read."""

from __future__ import annotations

import math
import sys
from typing import Annotated

import typer

from mindsight.errors import BadRequest

Key = Annotated[
    str, typer.Option(envvar="MINDSIGHT_KEY", help="API key; safer in MINDSIGHT_KEY than on the command line")
]
To = Annotated[str, typer.Option(help="the gateway's address; default: the service on this machine")]
Subject = Annotated[str, typer.Argument(help="the subject's pseudonym")]
Recipient = Annotated[
    list[str] | None,
    typer.Option(help="public key (age1..., ssh-ed25519 ...) of one who may read the file; repeat for several"),
]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask; it cannot be undone")]
Session = Annotated[str, typer.Option(help="id of an open session")]
RunNumber = Annotated[int, typer.Option(min=1, help="number of the run in the session")]
Echo = Annotated[
    str, typer.Option(help="which echo of a multi-echo run to read: its number, or combine for all; default: the first")
]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, unless ``yes``; "no" ends the command. Raises BadRequest (``cli.yes``) if there is none."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadRequest("expected a terminal to confirm the erasure on, or --yes", code="cli.yes")
    typer.confirm(question, abort=True)


def parse_speed(text: str) -> float:
    """Times as fast as it was recorded; infinity for as fast as possible. Raises BadRequest (``cli.speed``)."""
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 10_000.0:
        raise BadRequest(f"expected --speed max or a number above 0, got {text!r}", code="cli.speed")
    return speed
