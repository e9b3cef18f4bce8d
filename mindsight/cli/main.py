"""The commands under one name, and how each ends: one line for an error, and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from mindsight import __version__
from mindsight.cli.audit import audit_app
from mindsight.cli.backup import backup, restore
from mindsight.cli.bundle import bundle_app
from mindsight.cli.calibrate import calibrate
from mindsight.cli.convert import convert_app
from mindsight.cli.demo import demo
from mindsight.cli.doctor import doctor
from mindsight.cli.engine import engine_app
from mindsight.cli.evaluate import evaluate
from mindsight.cli.export import export
from mindsight.cli.init import init
from mindsight.cli.inspect import inspect
from mindsight.cli.job import job_app
from mindsight.cli.key import key_app
from mindsight.cli.pool import pool_app
from mindsight.cli.replay import replay
from mindsight.cli.report import report
from mindsight.cli.serve import serve
from mindsight.cli.session import session_app
from mindsight.cli.stream import stream
from mindsight.cli.style import JOB_FAILED, JOB_STOPPED, STOPPED, AsJson, example, show
from mindsight.cli.subject import subject_app
from mindsight.cli.train import train_app
from mindsight.cli.workers import infer, ingest, work
from mindsight.errors import MindsightError

VISIT, MODELS, PROCESSES = "A visit", "Models and measures", "Processes and records"
ENDED = "ended by Ctrl-C or SIGTERM"
FAULT = "wrong command line, or a fault of its own, with a traceback"

app = typer.Typer(
    help="Real-time fMRI decoding: a scanner streams volumes, Mindsight shows what was seen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Begin with mindsight demo; a laboratory begins with mindsight doctor, then mindsight serve.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def mindsight(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Real-time fMRI decoding: a scanner streams volumes, Mindsight shows what was seen."""


# What a visit takes, in its order; then what is done before and after it.
app.command(
    epilog=example("mindsight demo", "mindsight demo --once --speed max", done="done, or ended by Ctrl-C once it ran"),
    rich_help_panel=VISIT,
)(demo)
app.command(epilog=example("mindsight init"), rich_help_panel=VISIT)(init)
app.command(
    epilog=example(
        "mindsight doctor",
        "mindsight doctor --json",
        done="this machine can run Mindsight, perhaps with notes",
        failed="something must be mended first",
    ),
    rich_help_panel=VISIT,
)(doctor)
app.command(epilog=example("mindsight serve", done=ENDED), rich_help_panel=VISIT)(serve)
app.add_typer(key_app, name="key", rich_help_panel=VISIT)
app.add_typer(subject_app, name="subject", rich_help_panel=VISIT)
app.command(
    epilog=example(
        "mindsight inspect /export/test",
        "mindsight inspect run-1/ --json",
        done="decoding can start",
        failed="it cannot, or nothing could be read",
    ),
    rich_help_panel=VISIT,
)(inspect)
# with --out its arguments are those of another program
_passed_on: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(
    context_settings=_passed_on,
    add_help_option=False,
    epilog=example(
        "mindsight calibrate sub-abc234",
        "mindsight calibrate run-1 run-2 --out bundle/",
        failed=JOB_FAILED,
        stopped=JOB_STOPPED,
    ),
    rich_help_panel=VISIT,
)(calibrate)
app.add_typer(bundle_app, name="bundle", rich_help_panel=VISIT)
app.add_typer(session_app, name="session", rich_help_panel=VISIT)
app.command(
    epilog=example(
        "mindsight stream 'watch:/export?n=192' --session ses-1",
        "mindsight stream cstore://0.0.0.0:11112 --session ses-1 --triggers 'tcp://0.0.0.0:8423?skip=2'",
        "mindsight stream run-1/bold.nii.gz --session ses-1 --events run-1/events.tsv",
        done="the service has everything that arrived",
        failed="the service could not be reached, or refused",
        lost="it ran to its end, but volumes are missing or something could not be read: see the messages",
        stopped="interrupted; a live source the second time: the first ends the run and the stream",
    ),
    rich_help_panel=VISIT,
)(stream)
app.command(
    epilog=example(
        "mindsight replay run-1/ --session ses-1 --speed 4",
        "mindsight replay run-1/ --bundle bundle/",
        lost="it ran to its end, but volumes are missing or something could not be read: see the messages",
    ),
    rich_help_panel=VISIT,
)(replay)
app.command(epilog=example("mindsight evaluate mindsight-data/archive/ses-1 --bundle bundle/"), rich_help_panel=MODELS)(
    evaluate
)
app.command(
    epilog=example("mindsight export study/", "mindsight export study/ --subject sub-abc234"), rich_help_panel=VISIT
)(export)
app.command(epilog=example("mindsight report mindsight-data/archive/sub-abc234_ses-1"), rich_help_panel=MODELS)(report)
app.add_typer(job_app, name="job", rich_help_panel=PROCESSES)
app.add_typer(audit_app, name="audit", rich_help_panel=PROCESSES)
app.command(
    epilog=example(
        "mindsight backup /backups/decoder",
        lost="it is finished, but payloads of the data folder had been damaged before",
    ),
    rich_help_panel=PROCESSES,
)(backup)
app.command(
    epilog=example("MINDSIGHT_DATA_DIR=restored mindsight restore /backups/decoder"), rich_help_panel=PROCESSES
)(restore)
app.add_typer(pool_app, name="pool", rich_help_panel=MODELS)
app.add_typer(convert_app, name="convert", rich_help_panel=MODELS)
app.add_typer(engine_app, name="engine", rich_help_panel=MODELS)
app.add_typer(train_app, name="train", rich_help_panel=MODELS)
app.command(epilog=example("mindsight ingest", done=ENDED, usage=FAULT), rich_help_panel=PROCESSES)(ingest)
app.command(epilog=example("mindsight infer", done=ENDED, usage=FAULT), rich_help_panel=PROCESSES)(infer)
app.command(epilog=example("mindsight work", done=ENDED, usage=FAULT), rich_help_panel=PROCESSES)(work)


@app.command(epilog=example("mindsight version"), rich_help_panel=PROCESSES)
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    show(__version__, {"version": __version__}, as_json)


def main() -> None:
    """The console script. An error of ours is one line and exit code 1; a wrong command line is exit code 2.

    What a command writes is for its user alone, wherever that is: it holds brains, or keys.
    """
    os.umask(0o077)
    try:
        app()
    except MindsightError as error:
        _end(f"{error} [{error.code}]", 1)
    except OSError as error:
        _end(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except KeyboardInterrupt:
        _end("stopped", STOPPED)


def _end(text: str, code: int) -> None:
    typer.echo(f"mindsight: {text}", err=True)
    sys.exit(code)
