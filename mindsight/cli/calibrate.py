from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from mindsight.cli.become import become
from mindsight.cli.options import Key, Subject, To
from mindsight.cli.style import JOB_FAILED, JOB_STOPPED, exit_codes
from mindsight.errors import BadRequest

_SUBJECT = re.compile(r"sub-[a-z0-9]{6}")
_EPILOG = f"""\
Without a service, from folders of recorded runs: mindsight calibrate RUN... --out BUNDLE.
It is --out that tells the two apart; the other options of that form: mindsight calibrate --out BUNDLE --help

{exit_codes(failed=JOB_FAILED, stopped=JOB_STOPPED)}
"""

_at_service = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def calibrate(context: typer.Context) -> None:
    """Calibrate a subject at the service: SUBJECT. Or make a bundle from recorded runs: RUN... --out BUNDLE."""
    if any(argument == "--out" or argument.startswith("--out=") for argument in context.args):
        become("calibrate", "training.calibration", *context.args)
    _at_service(context.args, prog_name="mindsight calibrate")


@_at_service.command(epilog=_EPILOG)
def calibrate_subject(
    subject: Subject,
    sessions: Annotated[
        str, typer.Option(help="archived sessions, separated by commas; default: all of the subject")
    ] = "",
    live: Annotated[str | None, typer.Option(help="a session that was opened with calibration=true")] = None,
    pool: Annotated[
        str | None, typer.Option(help="candidate pool of the service; default: the labels are the candidates")
    ] = None,
    fine_tuning: Annotated[
        bool,
        typer.Option(
            "--fine-tuning",
            help="gradient steps after the closed form, on processors alone; needs a pool and a shared backbone",
        ),
    ] = False,
    activate: Annotated[
        Literal["better", "never"], typer.Option(help="whether a version that is not worse replaces the active one")
    ] = "better",
    detach: Annotated[bool, typer.Option("--detach", help="print the job, and do not follow it")] = False,
    to: To = "",
    key: Key = "",
) -> None:
    """Calibrate a subject at the running service, and follow the job to its end."""
    from mindsight.cli.service import enrolment, follow

    if not _SUBJECT.fullmatch(subject):
        raise BadRequest(
            f"expected a pseudonym like sub-abc234, got {subject!r}; recorded runs need --out BUNDLE",
            code="cli.subject",
        )
    named = [session for session in sessions.split(",") if session]
    with enrolment(to, key) as service:
        job = service.calibrate(subject, named, live=live, pool=pool, fine_tuning=fine_tuning, activate=activate)
        if detach:
            typer.echo(job)
        else:
            follow(service, job)
