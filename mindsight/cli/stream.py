from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.options import Echo, Key, RunNumber, Session
from mindsight.cli.style import LOST, AsJson, show
from mindsight.errors import BadRequest


def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="folder or file of volumes; or live: watch:/folder, or cstore, afni, murfi, mrd, each ://HOST:PORT"
        ),
    ],
    session: Session,
    to: Annotated[str, typer.Option(help="the gateway's address; default: the service on this machine")] = "",
    key: Key = "",
    run: RunNumber = 1,
    task: Annotated[str, typer.Option(help="name of the task, letters and digits")] = "view",
    events: Annotated[Path | None, typer.Option(help="BIDS events.tsv to declare with the run")] = None,
    spool: Annotated[
        Path | None, typer.Option(help="folder for unacknowledged volumes; default: in the data folder")
    ] = None,
    triggers: Annotated[
        str | None,
        typer.Option(
            help="live: where to listen for trigger pulses, one line of text each: tcp://HOST:PORT?skip=DUMMIES"
        ),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="live: also keep the volumes in this folder (run-NNN), for replay")
    ] = None,
    echo: Echo = "",
    as_json: AsJson = False,
) -> None:
    """Send a series, or what a scanner sends now, to the service, in order. No unacknowledged volume is dropped.

    Live sources are split into runs automatically: a series is a run from its
    second volume on. Problems are reported here and to everyone who watches
    the session, and never stop the stream; repeat the command to resume.

    Options of a live source follow it: 'watch:/export?n=192&tr=1.5'
    all: n=192 (volumes of each run, which ends with the last),
    tr=1.5 and shape=64x64x36 (only such series are runs),
    echo=2 (of several echoes; or echo=combine), as --echo
    moco=1 (the scanner's motion-corrected series instead of the raw one),
    late=3 (seconds after which an absent volume is declared missing),
    idle=300 (seconds without new data after which the stream ends)
    watch: existing=1 (read the files that are already there), mode=polling
    cstore: ae=MINDSIGHT (our title), calling=A,B (who may send), cert, key, ca
    afni: data=7960 (port); afni, murfi and mrd: allow=192.168.1.0/24
    mrd: return=none (send no images back to the scanner)
    """
    from mindsight.cli.terminal import Terminal
    from mindsight.operations.stream import Destination, RunOptions, is_live, stream_live, stream_recorded
    from mindsight.scanner.echoes import parse_echo

    to_session, options, chosen = Destination(session, key, to, spool), RunOptions(run, task, events), parse_echo(echo)
    terminal = Terminal(quiet=as_json)
    if is_live(source):
        sent = stream_live(source, to_session, options, terminal, triggers=triggers, record=record, echo=chosen)
    elif triggers or record:
        raise BadRequest("expected a live source with --triggers or --record, got files", code="cli.live")
    else:
        sent = stream_recorded(Path(source), to_session, options, terminal, echo=chosen)
    if as_json:
        show("", asdict(sent), as_json)
    if not sent.is_whole:
        raise typer.Exit(LOST)
