"""``mindsight``: one command per job. Knows the processes by module name only; every error is one line.

Modules are imported where a command needs them, so that ``mindsight --help`` is quick.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mindsight import __version__
from mindsight.errors import BadRequest, MindsightError

app = typer.Typer(
    help="Real-time fMRI decoding: volumes in, pictures out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Key = Annotated[
    str, typer.Option(envvar="MINDSIGHT_KEY", help="API key; better in MINDSIGHT_KEY than on the command line")
]


def _speed(text: str) -> float:
    """Times as fast as it was recorded; infinity for as fast as possible."""
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 10_000.0:
        raise BadRequest(f"expected --speed max or a number above 0, got {text!r}", code="cli.speed")
    return speed


def _become(module: str, *arguments: str) -> None:
    """Replace this process by another of the project's, so that its signals and exit code are ours."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="no browser; end by itself and print JSON on the last line")
    ] = False,
    speed: Annotated[str, typer.Option(help="times real time, or max; default 4, with --once 10")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="keep everything here instead of ./mindsight-data/demo")] = None,
) -> None:
    """A simulated session through the real service."""
    from mindsight.demo import run_demo

    run_demo(once=once, speed=_speed(speed or ("10" if once else "4")), data_dir=data_dir)


@app.command()
def serve() -> None:
    """Start bus, gateway, ingest and inference on this machine, and keep them running until Ctrl-C."""
    from mindsight.settings import Settings
    from mindsight.supervisor import Supervisor, wait_for_stop

    supervisor = Supervisor(Settings())
    url = supervisor.start()
    typer.echo(f"Mindsight is up at {url} (data: {supervisor.settings.data_dir}; logs: {supervisor.logs_dir})")
    wait_for_stop(supervisor)


@app.command()
def ingest() -> None:
    """Run one ingest worker."""
    _become("workers.ingest")


@app.command()
def infer() -> None:
    """Run one inference worker."""
    _become("workers.inference")


@app.command()
def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="folder or file of volumes; or live: watch:/folder, cstore://HOST:PORT, afni://HOST:PORT, murfi://HOST:PORT"
        ),
    ],
    session: Annotated[str, typer.Option(help="id of an open session")],
    to: Annotated[str, typer.Option(help="the gateway's address; default: the service on this machine")] = "",
    key: Key = "",
    run: Annotated[int, typer.Option(min=1, help="number of the run in the session")] = 1,
    task: Annotated[str, typer.Option(help="name of the task")] = "view",
    events: Annotated[Path | None, typer.Option(help="BIDS events.tsv to declare with the run")] = None,
    spool: Annotated[Path | None, typer.Option(help="where unacknowledged volumes are kept")] = None,
) -> None:
    """Send a series, or what a scanner sends now, to the service, in order. Nothing unacknowledged is dropped."""
    from mindsight.stream import stream_source

    stream_source(source, session, to=to, key=key, run=run, task=task, events=events, spool=spool, speed=math.inf)


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="recorded run: bold.nii.gz or dcm/, events.tsv, perhaps motion.txt")],
    speed: Annotated[str, typer.Option(help="times its own pace, or max")] = "1",
    bundle: Annotated[
        Path | None, typer.Option(help="decode here, with this subject bundle, without a service")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="with --bundle: one JSON line per answer")] = None,
    session: Annotated[str, typer.Option(help="without --bundle: id of an open session")] = "",
    to: Annotated[str, typer.Option(help="without --bundle: the gateway's address")] = "",
    key: Key = "",
    run: Annotated[int, typer.Option(min=1, help="number of the run in the session")] = 1,
) -> None:
    """Stream a recorded run at its own pace, N times faster, or as fast as possible."""
    times = _speed(speed)
    if bundle is not None:
        from mindsight.replay import replay as replay_here

        summary = replay_here(folder, bundle, speed=times, results=results, clock=time.monotonic, sleep=time.sleep)
        typer.echo(str(summary))
        return
    if not session:
        raise BadRequest(
            "say where to: --bundle BUNDLE decodes here, --session ID streams to the service", code="cli.to"
        )
    from mindsight.stream import stream_source

    stream_source(str(folder), session, to=to, key=key, run=run, task="view", events=None, spool=None, speed=times)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def calibrate(context: typer.Context) -> None:
    """Make a subject bundle from recorded runs: RUN... --decoder linear --labels trial_type --out BUNDLE."""
    _become("training.calibrate", *context.args)


@app.command()
def evaluate(
    answers: Annotated[Path, typer.Argument(help="folder with manifest.json and reconstructions or tokens")],
    images: Annotated[Path, typer.Argument(help="the pictures that were shown: a folder, .npy or .pt")],
    out: Annotated[Path, typer.Option(help="folder for table.txt, evaluation.json and evaluation.html")],
    networks: Annotated[Path | None, typer.Option(help="folder with the feature networks' published files")] = None,
    seed: Annotated[int, typer.Option(help="of the draws of retrieval and of the intervals")] = 0,
) -> None:
    """The published metrics by their protocol, with controls: a table, JSON and a page with the pictures."""
    from mindsight.evaluate import evaluate_folder
    from mindsight.evaluation.table import text_table

    typer.echo(text_table(evaluate_folder(answers, images, out, networks=networks, seed=seed)))


@app.command()
def doctor() -> None:
    """Say whether this machine can run Mindsight, and what to do where it cannot."""
    from mindsight.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(str(finding))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


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


if __name__ == "__main__":
    main()
