"""The commands under one name, and how each ends: one line for an error, and an exit code."""

from __future__ import annotations

import sys

import typer

from mindsight import __version__
from mindsight.cli.audit import audit_app
from mindsight.cli.bundle import bundle_app
from mindsight.cli.calibrate import calibrate
from mindsight.cli.convert import convert_app
from mindsight.cli.demo import demo
from mindsight.cli.doctor import doctor
from mindsight.cli.engine import engine_app
from mindsight.cli.evaluate import evaluate
from mindsight.cli.inspect import inspect
from mindsight.cli.job import job_app
from mindsight.cli.pool import pool_app
from mindsight.cli.replay import replay
from mindsight.cli.serve import serve
from mindsight.cli.stream import stream
from mindsight.cli.subject import subject_app
from mindsight.cli.train import train_app
from mindsight.cli.workers import infer, ingest, work
from mindsight.errors import MindsightError

app = typer.Typer(
    help="Real-time fMRI decoding: a scanner streams volumes, Mindsight shows what was seen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(demo)
app.command()(serve)
app.command()(ingest)
app.command()(infer)
app.command()(work)
app.command()(stream)
app.command()(replay)
# with --out its arguments are those of another program
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)(
    calibrate
)
app.add_typer(subject_app, name="subject")
app.add_typer(bundle_app, name="bundle")
app.add_typer(job_app, name="job")
app.add_typer(audit_app, name="audit")
app.add_typer(pool_app, name="pool")
app.add_typer(convert_app, name="convert")
app.add_typer(engine_app, name="engine")
app.add_typer(train_app, name="train")
app.command()(evaluate)
app.command()(inspect)
app.command()(doctor)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """The console script. An error of ours is one line and exit code 1; a wrong command line is exit code 2."""
    try:
        app()
    except MindsightError as error:
        typer.echo(f"mindsight: {error} [{error.code}]", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("mindsight: stopped", err=True)
        sys.exit(130)
