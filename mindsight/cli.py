"""``mindsight``: one command per job. Knows the processes by module name only; every error is one line.

Modules are imported where a command needs them, so that ``mindsight --help`` is quick.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mindsight import __version__
from mindsight.errors import BadRequest, MindsightError
from mindsight.extras import need_server

if TYPE_CHECKING:
    from mindsight.stream import Sent

app = typer.Typer(
    help="Real-time fMRI decoding: volumes in, pictures out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Key = Annotated[
    str, typer.Option(envvar="MINDSIGHT_KEY", help="API key; better in MINDSIGHT_KEY than on the command line")
]

EchoOption = Annotated[
    str, typer.Option(help="which echo of a multi-echo run to read: its number, or combine for all; default: the first")
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


LOST = 3
"""Exit code of a stream that went to its end without something that came or should have come."""


def _end_of(sent: Sent) -> None:
    if not sent.is_whole:
        raise typer.Exit(LOST)


def _become(name: str, module: str, *arguments: str) -> None:
    """Replace this process by another of the project's, so that its signals and exit code are ours."""
    from mindsight.processes import module_command

    need_server(f"mindsight {name}")
    command = module_command(module, *arguments)
    os.execv(command[0], command)  # noqa: S606


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="no browser; end by itself and print JSON on the last line")
    ] = False,
    speed: Annotated[str, typer.Option(help="times real time, or max; default 4, with --once 10")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="keep everything here instead of ./mindsight-data/demo")] = None,
) -> None:
    """A simulated session through the real service."""
    need_server("mindsight demo")
    from mindsight.operations.demo import run_demo

    run_demo(once=once, speed=_speed(speed or ("10" if once else "4")), data_dir=data_dir)


@app.command()
def serve() -> None:
    """Start bus, gateway, ingest and inference on this machine, and keep them running until Ctrl-C."""
    from mindsight.operations.supervisor import Supervisor, wait_for_stop
    from mindsight.settings import Settings

    need_server("mindsight serve")
    supervisor = Supervisor(Settings())
    url = supervisor.start()
    typer.echo(f"Mindsight is up at {url} (data: {supervisor.settings.data_dir}; logs: {supervisor.logs_dir})")
    wait_for_stop(supervisor)


@app.command()
def ingest() -> None:
    """Run one ingest worker."""
    _become("ingest", "workers.ingest")


@app.command()
def infer() -> None:
    """Run one inference worker."""
    _become("infer", "workers.inference")


@app.command()
def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="folder or file of volumes; or live: watch:/folder, or cstore, afni, murfi, mrd, each ://HOST:PORT"
        ),
    ],
    session: Annotated[str, typer.Option(help="id of an open session")],
    to: Annotated[str, typer.Option(help="the gateway's address; default: the service on this machine")] = "",
    key: Key = "",
    run: Annotated[int, typer.Option(min=1, help="number of the run in the session")] = 1,
    task: Annotated[str, typer.Option(help="name of the task")] = "view",
    events: Annotated[Path | None, typer.Option(help="BIDS events.tsv to declare with the run")] = None,
    spool: Annotated[Path | None, typer.Option(help="where unacknowledged volumes are kept")] = None,
    triggers: Annotated[
        str | None,
        typer.Option(
            help="live: where to listen for trigger pulses, a line of text each: tcp://HOST:PORT?skip=DUMMIES"
        ),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="live: keep what comes in this folder, to be replayed (its run-NNN)")
    ] = None,
    echo: EchoOption = "",
) -> None:
    """Send a series, or what a scanner sends now, to the service, in order. Nothing unacknowledged is dropped.

    Live, runs find themselves: a series is a run from its second volume on.
    What is wrong is printed, told to all who watch the session, and stops
    nothing. The same command again goes on where one that was killed was.

    Options of a live source follow it: 'watch:/export?n=192&tr=1.5'
    all: n=192 (volumes of a run, which then ends with the last),
    tr=1.5 and shape=64x64x36 (only such series are runs),
    echo=2 (of several echoes; or echo=combine), as --echo
    moco=1 (the scanner's motion-corrected series instead of the raw one),
    late=3 (seconds until a volume that did not come is missing),
    idle=300 (seconds with nothing new until the stream ends by itself)
    watch: existing=1 (read what is there already), mode=polling
    cstore: ae=MINDSIGHT (our title), calling=A,B (who may send), cert, key, ca
    afni: data=7960 (port); afni, murfi and mrd: allow=192.168.1.0/24
    mrd: return=none (images do not go back to the scanner)

    Exit code: 0 the service has everything that came; 3 the stream finished,
    but volumes are missing or something could not be read (see the messages);
    1 the stream could not be served; 2 wrong command line; 130 stopped twice.
    """
    from mindsight.scanner.echoes import parse_echo
    from mindsight.stream import is_live, stream_source

    if (triggers or record) and not is_live(source):
        raise BadRequest("--triggers and --record are for what a scanner sends now", code="cli.live")
    sent = stream_source(
        source, session, to=to, key=key, run=run, task=task, events=events, spool=spool, speed=math.inf,
        triggers=triggers, record=record, echo=parse_echo(echo),
    )  # fmt: skip
    _end_of(sent)


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
    echo: EchoOption = "",
) -> None:
    """Stream a recorded run at its own pace, N times faster, or as fast as possible."""
    from mindsight.scanner.echoes import parse_echo

    times, chosen = _speed(speed), parse_echo(echo)
    if bundle is not None:
        need_server("mindsight replay --bundle")
        from mindsight.operations.replay import replay as replay_here

        summary = replay_here(
            folder, bundle, speed=times, results=results, clock=time.monotonic, sleep=time.sleep, echo=chosen
        )
        typer.echo(str(summary))
        return
    if not session:
        raise BadRequest(
            "say where to: --bundle BUNDLE decodes here, --session ID streams to the service", code="cli.to"
        )
    from mindsight.stream import stream_source

    sent = stream_source(
        str(folder), session, to=to, key=key, run=run, task="view", events=None, spool=None, speed=times, echo=chosen
    )
    _end_of(sent)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def calibrate(context: typer.Context) -> None:
    """Make a subject bundle from recorded runs: RUN... --decoder linear --labels trial_type --out BUNDLE."""
    _become("calibrate", "training.calibration", *context.args)


pool_app = typer.Typer(help="Candidate pools: what answers are chosen from.", no_args_is_help=True)
app.add_typer(pool_app, name="pool")


@pool_app.command("build")
def pool_build(
    pictures: Annotated[Path, typer.Argument(help="a folder of PNG and JPEG, or an HDF5 file of pictures like NSD's")],
    out: Annotated[Path, typer.Argument(help="folder of the pool; a build that was stopped goes on when repeated")],
    weights: Annotated[
        Path | None,
        typer.Option(help="OpenCLIP weights, or MindEye2's unCLIP checkpoint; without: the encoder that comes along"),
    ] = None,
    model: Annotated[
        str, typer.Option(help="open_clip's configuration: a name, or a JSON file; default ViT-bigG-14")
    ] = "",
    embedding: Annotated[str, typer.Option(help="tokens or pooled")] = "tokens",
    values: Annotated[
        str,
        typer.Option(help="mindeye2: pixels as MindEye2 feeds them; clip: as OpenCLIP does; default: by the embedding"),
    ] = "",
    rows: Annotated[Path | None, typer.Option(help=".npy: which rows of the HDF5 file, numbers or bools")] = None,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda")] = "cpu",
) -> None:
    """Embed pictures into a candidate pool on disk, in half precision."""
    need_server("mindsight pool")
    from mindsight.pool import build
    from mindsight.retrieval import Progress

    said_s = 0.0

    def report(progress: Progress) -> None:
        nonlocal said_s
        for skipped in progress.skipped:
            typer.echo(f"skipped {skipped.id}: {skipped.why}", err=True)
        if time.monotonic() - said_s > 2.0 or progress.done == progress.n:
            said_s = time.monotonic()
            typer.echo(f"{progress.done:,} of {progress.n:,} pictures", err=True)

    pool = build(
        pictures, out, weights=weights, model=model, embedding=embedding, values=values, rows=rows, batch=batch,
        device=device, report=report,
    )  # fmt: skip
    typer.echo(f"{len(pool):,} candidates {pool.token_shape} in {out}, digest {pool.digest}\n{pool.source}")


@pool_app.command("reduce")
def pool_reduce(
    pool: Annotated[Path, typer.Argument(help="folder of a pool")],
    size: Annotated[int, typer.Option(min=64, help="numbers of a candidate's sketch")] = 2048,
) -> None:
    """Sketch a pool too large to be read for every answer: the best by their sketches are compared in full."""
    need_server("mindsight pool")
    from mindsight.pool import reduce

    index = reduce(pool, size)
    typer.echo(
        f"{len(index.pool):,} candidates in sketches of {index.size:,} numbers, {index.sketches_NM.nbytes:,} bytes"
    )


@pool_app.command("verify")
def pool_verify(pool: Annotated[Path, typer.Argument(help="folder of a pool")]) -> None:
    """Read a whole pool and compare it with the digest that was written with it."""
    need_server("mindsight pool")
    from mindsight.retrieval import CandidatePool

    found = CandidatePool.load(pool)
    found.verify()
    typer.echo(f"{len(found):,} candidates {found.token_shape}, as they were written, digest {found.digest}")


convert_app = typer.Typer(help="Released weights into safetensors that say what they are.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")


@convert_app.command("mindeye2")
def convert_mindeye2(
    checkpoint: Annotated[Path, typer.Argument(help="last.pth, .safetensors, or a DeepSpeed folder")],
    out: Annotated[Path, typer.Argument(help="new folder for the weights and their manifest")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"],
        typer.Option(help="of the weights; half of the bytes at float16 and bfloat16"),
    ] = "float32",
) -> None:
    """Any released MindEye2 checkpoint, all dimensions from its keys. Nothing in the file is run."""
    need_server("mindsight convert")
    import torch

    from mindsight.decoders.mindeye2 import convert_mindeye2 as convert

    done = convert(checkpoint, out, getattr(torch, dtype))
    who = ", ".join(f"{s.voxels:,} voxels" + (f" (NSD {s.nsd})" if s.nsd else "") for s in done.subjects)
    typer.echo(
        f"{out}: {len(done.subjects)} subject{'s' if len(done.subjects) > 1 else ''}: {who}\n"
        f"hidden {done.layout['hidden']}, {done.layout['tokens']} tokens of {done.layout['dim']}, {done.dtype}; "
        f"{len(done.dropped)} keys left out that are recomputed"
    )


@app.command()
def evaluate(
    answers: Annotated[
        Path, typer.Argument(help="a session's archive, or a folder with manifest.json and reconstructions or tokens")
    ],
    images: Annotated[
        Path | None, typer.Argument(help="of a folder: the pictures that were shown, a folder, .npy or .pt")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for table.txt, evaluation.json and evaluation.html; default: here")
    ] = None,
    networks: Annotated[Path | None, typer.Option(help="folder with the feature networks' published files")] = None,
    image_tokens: Annotated[
        Path | None, typer.Option(help="of a folder: .npy of the pictures' embeddings, for retrieval")
    ] = None,
    betas: Annotated[
        Path | None, typer.Option(help="of a folder: .npy of measured activity, for brain correlation")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="of a folder: .npz of regions, for brain correlation")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="of a folder: JSON of people's captions, beside the answers' captions.json")
    ] = None,
    stage: Annotated[str, typer.Option(help="of an archive: fast, revised or final answers")] = "final",
    bundle: Annotated[
        Path | None, typer.Option(help="of an archive: its bundle, for retrieval both ways and more controls")
    ] = None,
    generator: Annotated[Path | None, typer.Option(help="with --bundle: folder of the generator")] = None,
    allow_best_of_n: Annotated[
        bool, typer.Option(help="of a folder: measure answers of which the best was picked, and say so")
    ] = False,
    seed: Annotated[int, typer.Option(help="of the draws of retrieval and of the intervals")] = 0,
    device: Annotated[str, typer.Option(help="of the feature networks: cpu, cuda")] = "cpu",
) -> None:
    """The published metrics by their protocol, with controls: a table, JSON and a page with the pictures."""
    need_server("mindsight evaluate")
    from mindsight.evaluation.report.table import text_table
    from mindsight.evaluation.run import evaluate_archive, evaluate_folder
    from mindsight.evaluation.session import is_archive

    out = out or Path(f"evaluation-{answers.resolve().name}")
    if is_archive(answers):
        if images or image_tokens or betas or masks or captions or allow_best_of_n:
            raise BadRequest("expected an archive alone: its pictures and answers are in it", code="cli.evaluate")
        evaluation = evaluate_archive(
            answers, out, stage=stage, bundle=bundle, generator=generator, networks=networks, seed=seed, device=device
        )
    elif images is None:
        raise BadRequest("expected a session's archive, or a folder of answers and the pictures", code="cli.evaluate")
    else:
        evaluation = evaluate_folder(
            answers, images, out, networks=networks, image_tokens=image_tokens, betas=betas, masks=masks,
            captions=captions, allow_best_of_n=allow_best_of_n, seed=seed, device=device,
        )  # fmt: skip
    typer.echo(text_table(evaluation))
    typer.echo(f"{out / 'evaluation.html'}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="a scanner's files: a folder, also of several series, or one file")],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say what these files are: scanner, matrix, TR, slice times, runs, what is left out, whether decoding can start.

    Exit code: 0 decoding can start, 1 it cannot.
    """
    from mindsight.inspect import inspect as inspect_path

    if not inspect_path(path, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say whether this machine can run Mindsight, and what to do where it cannot."""
    from mindsight.operations.doctor import examine

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
