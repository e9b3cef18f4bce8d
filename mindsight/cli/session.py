from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated, Any

import typer

from mindsight.cli.options import Key, Subject, To
from mindsight.cli.style import AsJson, example, show, show_rows

session_app = typer.Typer(help="Sessions of the service: open, list, look into, close.", no_args_is_help=True)

SessionId = Annotated[str, typer.Argument(help="the session's id")]


@session_app.command(
    "open", epilog=example("mindsight session open sub-abc234", "mindsight session open sub-abc234 --blinded")
)
def open_session(
    subject: Subject,
    name: Annotated[str, typer.Option(help="an id of your own; default: one is made up")] = "",
    blinded: Annotated[
        bool, typer.Option("--blinded", help="nobody is sent what was shown before the session is closed")
    ] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="calibrate the subject from its runs while it is scanned")
    ] = False,
    to: To = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Open a session and print its id, for mindsight stream and the stimulus program."""
    given = {"session": name or f"ses-{secrets.token_hex(4)}", "calibration": calibration}
    from mindsight.cli.service import sessions

    with sessions(to, key) as service:
        opened = service.open_session(subject, **given, options={"blinded": blinded})
    show(opened["session"], opened, as_json)


@session_app.command("list", epilog=example("mindsight session list"))
def list_sessions(to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Print the sessions, in the order in which they were opened."""
    from mindsight.cli.service import sessions

    with sessions(to, key) as service:
        found = service.sessions()
    rows = [
        (one["session"], one["subject"], one["bundle"] or "no bundle", _time(one["opened_t"]), one["state"])
        for one in found
    ]
    none = "no sessions yet: mindsight session open SUBJECT"
    show_rows(("session", "subject", "bundle", "opened", "state"), rows, found, as_json, none)


@session_app.command("show", epilog=example("mindsight session show ses-1"))
def show_session(session: SessionId, to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Print a session: its state, what it was opened with, how far its runs are."""
    from mindsight.cli.service import sessions

    with sessions(to, key) as service:
        found = service.session(session)
    lines = [
        f"{found['session']}  {found['state']}, opened {_time(found['opened_t'])}",
        f"  subject {found['subject']}, {found['bundle'] or 'no bundle: betas are estimated, nothing is decoded'}",
        *(_run(run) for run in found["runs"]),
    ]
    show("\n".join(lines if found["runs"] else [*lines, "  no runs yet"]), found, as_json)


@session_app.command("close", epilog=example("mindsight session close ses-1"))
def close_session(session: SessionId, to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Close a session: what was accepted is decoded and archived, nothing more is accepted."""
    from mindsight.cli.service import sessions

    with sessions(to, key) as service:
        closed = service.close_session(session)
    show(f"{session} is closed; its archive follows", closed, as_json)


def _run(run: dict[str, Any]) -> str:
    of = "" if run["n_volumes"] is None else f" of {run['n_volumes']}"
    return (
        f"  run {run['run']}: {run['next_index']}{of} volumes of {run['tr_s']:g} s{', ended' if run['ended'] else ''}"
    )


def _time(t: float) -> str:
    return datetime.fromtimestamp(t).strftime("%Y-%m-%d %H:%M")
