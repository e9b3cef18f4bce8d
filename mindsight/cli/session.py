from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mindsight.cli.options import Key, Recipient, Subject, To, Yes, confirm
from mindsight.cli.style import JOB_FAILED, JOB_STOPPED, AsJson, example, show, show_rows
from mindsight.progress import Progress

session_app = typer.Typer(
    help="Sessions of the service: open, list, look into, close, download, erase.", no_args_is_help=True
)

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


@session_app.command(
    "simulate", epilog=example("mindsight session simulate", "mindsight session simulate --runs 1 --speed 10")
)
def simulate_session(
    runs: Annotated[int, typer.Option(min=1, max=24, help="number of runs")] = 2,
    trials: Annotated[int, typer.Option(min=6, max=100, help="images in each run")] = 30,
    speed: Annotated[float, typer.Option(min=0.1, max=1000.0, help="times real time")] = 4.0,
    into: Annotated[
        str | None, typer.Option(help="an open session; default: a simulated subject is enrolled and one is opened")
    ] = None,
    keep_open: Annotated[bool, typer.Option("--keep-open", help="do not close the session after the last run")] = False,
    to: To = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Let the service scan its simulated participant, and print the session: to try a page, a script or a plan."""
    from mindsight.cli.service import sessions

    with sessions(to, key) as service:
        session = service.simulate(runs=runs, trials=trials, speed=speed, session=into, close=not keep_open).session
    show(session, {"session": session}, as_json)


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


@session_app.command("export", epilog=example("mindsight session export ses-1 ses-1.tar"))
def export_session(
    session: SessionId,
    file: Annotated[Path, typer.Argument(help="tar file to make; manifest.json in it has the sha256 of every file")],
    recipient: Recipient = None,
    to: To = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Download an archived session: BIDS raw data and derivatives. The subject must have agreed to an export.

    With --recipient it is encrypted for them: age --decrypt -i THEIR_KEY FILE | tar x
    """
    from mindsight.cli.service import sessions

    with sessions(to, key) as service, Progress(quiet=as_json) as progress:
        service.export(session, file, progress, recipient or ())
    show(str(file), {"file": str(file)}, as_json)


@session_app.command("report", epilog=example("mindsight session report ses-1 ses-1.html"))
def session_report(
    session: SessionId,
    file: Annotated[Path, typer.Argument(help="HTML file to make")],
    to: To = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Download an archived session's report: quality, motion, accuracy by stage, latency, reconstructions, methods."""
    from mindsight.cli.service import sessions

    with sessions(to, key) as service, Progress(quiet=as_json) as progress:
        service.report(session, file, progress)
    show(str(file), {"file": str(file)}, as_json)


@session_app.command("erase", epilog=example("mindsight session erase ses-1", failed=JOB_FAILED, stopped=JOB_STOPPED))
def erase(session: SessionId, yes: Yes = False, to: To = "", key: Key = "") -> None:
    """Erase an archived session, its archive, and bundles calibrated from it; the job fails if anything is left."""
    from mindsight.cli.service import enrolment, follow

    confirm(f"Erase {session}, and every bundle that was calibrated from it? It cannot be undone", yes=yes)
    with enrolment(to, key) as service:
        follow(service, service.erase_session(session))


def _run(run: dict[str, Any]) -> str:
    of = "" if run["n_volumes"] is None else f" of {run['n_volumes']}"
    return (
        f"  run {run['run']}: {run['next_index']}{of} volumes of {run['tr_s']:g} s{', ended' if run['ended'] else ''}"
    )


def _time(t: float) -> str:
    return datetime.fromtimestamp(t).strftime("%Y-%m-%d %H:%M")
