from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mindsight.cli.options import Key, Subject, To

bundle_app = typer.Typer(
    help="Versions of a subject's bundle: list, activate, roll back, export.", no_args_is_help=True
)

Number = Annotated[int, typer.Argument(min=1, help="the version's number")]


@bundle_app.command("list")
def list_versions(subject: Subject, to: To = "", key: Key = "") -> None:
    """Print the versions; * is the active one."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        held = service.versions(subject)
    active = held["activated"][-1] if held["activated"] else None
    for version in held["versions"]:
        typer.echo(_line(version, is_active=version["number"] == active))


@bundle_app.command("activate")
def activate(subject: Subject, number: Number, to: To = "", key: Key = "") -> None:
    """Decode the subject's sessions from now on with this version. Open sessions keep theirs."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        typer.echo(service.activate(subject, number))


@bundle_app.command("rollback")
def rollback(subject: Subject, to: To = "", key: Key = "") -> None:
    """Go back to the version that was active before the present one."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        typer.echo(service.roll_back(subject))


@bundle_app.command("export")
def export(
    subject: Subject,
    number: Number,
    file: Annotated[Path, typer.Argument(help="tar file to make; bundle.json in it lists the sha256 of every file")],
    to: To = "",
    key: Key = "",
) -> None:
    """Write a version as a tar file. The subject must have agreed to an export."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        typer.echo(f"{file}, digest {service.export(subject, number, file)}")


def _line(version: dict[str, Any], *, is_active: bool) -> str:
    made = datetime.fromtimestamp(version["created_t"]).strftime("%Y-%m-%d %H:%M")
    measured = version["measured"]
    accuracy = "accuracy not measured"
    if measured is not None:
        accuracy = (
            f"held-out accuracy {measured['accuracy']:.1%} (n {measured['n']}, 95 % interval {measured['low']:.1%} to"
            f" {measured['high']:.1%}, chance {measured['chance']:.1%})"
        )
    removed = ", files removed" if version["removed"] else ""
    return (
        f"{'*' if is_active else ' '} {version['number']}  {made}  {version['n_trials']} trials in {version['n_runs']}"
        f" runs, {accuracy}{removed}  {version['digest'][:12]}"
    )
