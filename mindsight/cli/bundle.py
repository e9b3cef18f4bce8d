from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mindsight.cli.options import Key, Recipient, Subject, To
from mindsight.cli.style import AsJson, example, show, show_rows
from mindsight.progress import Progress

bundle_app = typer.Typer(
    help="Versions of a subject's bundle: list, activate, roll back, export.", no_args_is_help=True
)

Number = Annotated[int, typer.Argument(min=1, help="the version's number")]


@bundle_app.command("list", epilog=example("mindsight bundle list sub-abc234"))
def list_versions(subject: Subject, to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Print the versions; * is the active one."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        held = service.versions(subject)
    active = held["activated"][-1] if held["activated"] else None
    rows = [_row(version, is_active=version["number"] == active) for version in held["versions"]]
    none = f"{subject} has no bundle yet: mindsight calibrate {subject}"
    show_rows(("", "version", "made", "trials", "held-out accuracy", "files"), rows, held, as_json, none)


@bundle_app.command("activate", epilog=example("mindsight bundle activate sub-abc234 2"))
def activate(subject: Subject, number: Number, to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Decode the subject's sessions from now on with this version. Open sessions keep theirs."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        bundle = service.activate(subject, number)
    show(bundle, {"bundle": bundle}, as_json)


@bundle_app.command("rollback", epilog=example("mindsight bundle rollback sub-abc234"))
def rollback(subject: Subject, to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Go back to the version that was active before the present one."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        bundle = service.roll_back(subject)
    show(bundle, {"bundle": bundle}, as_json)


@bundle_app.command("export", epilog=example("mindsight bundle export sub-abc234 2 sub-abc234.tar"))
def export(
    subject: Subject,
    number: Number,
    file: Annotated[Path, typer.Argument(help="tar file to make; bundle.json in it lists the sha256 of every file")],
    recipient: Recipient = None,
    to: To = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Write a version as a tar file. The subject must have agreed to an export.

    With --recipient it is encrypted for them: age --decrypt -i THEIR_KEY FILE | tar x
    """
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service, Progress(quiet=as_json) as progress:
        digest = service.export(subject, number, file, progress, recipient or ())
    show(f"{file}, digest {digest}", {"file": str(file), "digest": digest}, as_json)


def _row(version: dict[str, Any], *, is_active: bool) -> tuple[object, ...]:
    made = datetime.fromtimestamp(version["created_t"]).strftime("%Y-%m-%d %H:%M")
    measured = version["measured"]
    accuracy = "not measured"
    if measured is not None:
        accuracy = (
            f"{measured['accuracy']:.1%} (n {measured['n']}, 95 % interval {measured['low']:.1%} to"
            f" {measured['high']:.1%}, chance {measured['chance']:.1%})"
        )
    trials = f"{version['n_trials']} in {version['n_runs']} runs"
    files = "removed" if version["removed"] else version["digest"][:12]
    return "*" if is_active else "", version["number"], made, trials, accuracy, files
