from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.options import parse_speed
from mindsight.extras import need_server


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="without a browser: end when the visit is over, print JSON on the last line")
    ] = False,
    speed: Annotated[str, typer.Option(help="times real time, or max; default 4, with --once 10")] = "",
    data_dir: Annotated[
        Path | None, typer.Option(help="data folder; default: a new one, demo-DATE-TIME in MINDSIGHT_DATA_DIR")
    ] = None,
) -> None:
    """Run a simulated session through the real service."""
    need_server("mindsight demo")
    from mindsight.progress import Progress

    times = parse_speed(speed or ("10" if once else "4"))
    with Progress() as progress:
        progress("loading", 0.0)
        from mindsight.operations.demo import run_demo

        run_demo(once=once, speed=times, data_dir=data_dir, report=progress)
