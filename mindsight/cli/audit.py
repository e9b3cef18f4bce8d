from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Annotated

import typer

from mindsight.cli.style import AsJson, example, show

audit_app = typer.Typer(help="The log of who did what with this data folder.", no_args_is_help=True)


@audit_app.command("verify", epilog=example("mindsight audit verify"))
def verify(
    expect: Annotated[
        str, typer.Option(help="NUMBER:DIGEST that an earlier verify printed: the log must still hold that line")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check that no line was changed, removed or put in, and print the number and digest of the last.

    Note them elsewhere: with --expect they show later that the log was not cut off, or made anew.
    """
    from mindsight.errors import BadRequest, Diverged
    from mindsight.files.chain import FIRST, Chain
    from mindsight.settings import read_settings

    number, _, digest = expect.partition(":")
    if expect and not (number.isdecimal() and len(digest) == len(FIRST)):
        raise BadRequest("expected --expect NUMBER:DIGEST, as verify prints it", code="audit.expect")
    last, held = (0, FIRST), not expect or int(number) == 0
    chain = Chain(read_settings().audit_file)
    for link in chain.verify():
        last = (link.number, link.digest)
        held = held or last == (int(number), digest)
    if not held:
        text = f"expected line {number} of the audit log as noted, got another or none: it was cut off or replaced"
        raise Diverged(text, code="audit.broken")
    _, begun = chain.ends()
    facts = {"lines": last[0], "last": f"{last[0]}:{last[1]}", "begun_bytes": begun}
    text = f"{last[0]} lines, unchanged; last: {last[0]}:{last[1]}"
    if begun:
        text += (
            f"\nbehind it stand {begun} bytes of a line that was not written to its end: the machine stopped, or the"
            " file was copied while it was written; the next entry takes its place"
        )
    show(text, facts, as_json)


@audit_app.command("show", epilog=example("mindsight audit show", "mindsight audit show --json"))
def show_lines(as_json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False) -> None:
    """Print who did what, oldest first."""
    from mindsight.files.chain import Chain
    from mindsight.settings import read_settings

    for link in Chain(read_settings().audit_file).verify():
        if as_json:
            typer.echo(json.dumps(link.record))
            continue
        record = link.record
        when = datetime.fromtimestamp(record["t"], timezone.utc).isoformat(timespec="seconds")
        of = " ".join(f"{name}={value}" for name, value in record["of"].items())
        who, what = f"{record['role']} {record['key']}", f"{record['method']} {record['route']}"
        typer.echo(f"{when}  {who}  {what} {of} {record['status']}")
