from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.options import Echo, Key, RunNumber, parse_speed
from mindsight.cli.style import LOST, AsJson, show
from mindsight.errors import BadRequest
from mindsight.extras import need_server


def replay(
    folder: Annotated[Path, typer.Argument(help="recorded run: bold.nii.gz or dcm/, events.tsv, perhaps motion.txt")],
    speed: Annotated[str, typer.Option(help="times the run's own pace, or max")] = "1",
    bundle: Annotated[
        Path | None, typer.Option(help="decode in this process with this subject bundle, without a service")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="with --bundle: file for one JSON line per result")] = None,
    session: Annotated[str, typer.Option(help="without --bundle: id of an open session")] = "",
    to: Annotated[str, typer.Option(help="without --bundle: the gateway's address")] = "",
    key: Key = "",
    run: RunNumber = 1,
    echo: Echo = "",
    as_json: AsJson = False,
) -> None:
    """Stream a recorded run at its own pace, N times faster, or as fast as possible."""
    from mindsight.scanner.echoes import parse_echo

    times, chosen = parse_speed(speed), parse_echo(echo)
    if bundle is not None:
        need_server("mindsight replay --bundle")
        from mindsight.operations.replay import replay as replay_here

        summary = replay_here(
            folder, bundle, speed=times, results=results, clock=time.monotonic, sleep=time.sleep, echo=chosen
        )
        show(str(summary), asdict(summary), as_json)
        return
    if not session:
        raise BadRequest(
            "expected --bundle BUNDLE, to decode in this process, or --session ID, to stream to the service",
            code="cli.to",
        )
    from mindsight.cli.terminal import Terminal
    from mindsight.operations.stream import Destination, RunOptions, stream_recorded

    terminal = Terminal(quiet=as_json)
    sent = stream_recorded(folder, Destination(session, key, to), RunOptions(run), terminal, speed=times, echo=chosen)
    if as_json:
        show("", asdict(sent), as_json)
    if not sent.is_whole:
        raise typer.Exit(LOST)
