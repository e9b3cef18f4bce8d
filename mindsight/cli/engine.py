from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from mindsight.extras import need_server

REPORT_EVERY_S = 2.0

engine_app = typer.Typer(help="Engines: what makes a generator fast on one machine.", no_args_is_help=True)

Generator = Annotated[
    Path | None, typer.Option(help="folder of a generator; default: MINDSIGHT_GENERATOR_DIR, else the one that ships")
]


@engine_app.command("build")
def build(
    engine: Annotated[
        Literal["onnx", "tensorrt"], typer.Argument(help="onnx runs on any processor, tensorrt on a CUDA card")
    ],
    generator: Generator = None,
    card: Annotated[
        list[str] | None,
        typer.Option(help="compute capability of a card to build for, 8.9 for instance; repeat for several. Default: "
                     "8.6, 8.9 and 12.0 with TensorRT for RTX, the card that is here with enterprise TensorRT"),
    ] = None,
) -> None:  # fmt: skip
    """Build an engine into MINDSIGHT_DATA_DIR/engines. No card is needed for it, nor for verifying onnx."""
    need_server("mindsight engine")
    from mindsight.generators.engines.folder import read_description
    from mindsight.operations.engine import build as build_engine
    from mindsight.settings import read_settings

    settings = read_settings()
    folder = build_engine(_folder(generator), engine, settings.engines_dir, card or [], _Progress())
    description = read_description(folder)
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    cards = f" for {', '.join(description.capabilities)}" if description.capabilities else ""
    typer.echo(
        f"{folder}: {', '.join(description.graphs)} by {description.runtime}{cards}, {n_bytes:,} bytes\n"
        f"not yet verified: run mindsight engine verify {folder.name} on the machine that will run it"
    )


@engine_app.command("list")
def list_engines() -> None:
    """List the engines in MINDSIGHT_DATA_DIR/engines, and which of them were verified on which device."""
    need_server("mindsight engine")
    from mindsight.operations.engine import listed
    from mindsight.settings import read_settings

    engines_dir = read_settings().engines_dir
    found = listed(engines_dir)
    for one in found:
        if one.description is None:
            typer.echo(f"{one.folder.name}: {one.problem}")
            continue
        cards = f" for {', '.join(one.description.capabilities)}" if one.description.capabilities else ""
        state = "not verified" if one.verified is None else f"verified on {one.verified.device}"
        networks = ", ".join(f"{name} in {kind}" for name, kind in one.description.precision.items())
        typer.echo(
            f"{one.folder.name}: generator {one.description.source[:12]}, {networks}, {one.description.runtime}{cards},"
            f" {state}"
        )
    if not found:
        typer.echo(f"no engines in {engines_dir}: mindsight engine build")


@engine_app.command("verify")
def verify(
    name: Annotated[str, typer.Argument(help="name of the engine, as mindsight engine list shows it")],
    generator: Generator = None,
) -> None:
    """Run an engine beside the eager networks on fixed inputs. Workers use an engine only after this."""
    need_server("mindsight engine")
    from mindsight.operations.engine import verify as verify_engine
    from mindsight.settings import read_settings

    record = verify_engine(read_settings().engines_dir / name, _folder(generator))
    errors = ", ".join(f"{network} {error:.1e}" for network, error in record.errors.items())
    typer.echo(f"{name} computes on {record.device} what eager does; relative error: {errors}")


@engine_app.command("bench")
def bench(generator: Generator = None) -> None:
    """Time a generator's networks on every engine that this machine can use; compare what they compute with eager."""
    need_server("mindsight engine")
    from mindsight.operations.engine import bench as bench_engines
    from mindsight.settings import read_settings

    for one in bench_engines(_folder(generator), read_settings().engines_dir):
        typer.echo(
            f"{one.engine:<26} {one.network:<11} batch {one.batch}: {one.milliseconds:9.2f} ms,"
            f" relative error {one.error:.1e}"
        )


def _folder(generator: Path | None) -> Path:
    from mindsight import assets
    from mindsight.settings import read_settings

    return generator or read_settings().generator_dir or assets.GENERATOR


class _Progress:
    """Prints what is done now and about how long the rest takes: a new step at once, else every two seconds."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._reported_s = 0.0
        self._what = ""

    def __call__(self, what: str, done: float) -> None:
        now_s = time.monotonic()
        if what == self._what and now_s - self._reported_s < REPORT_EVERY_S:
            return
        self._what, self._reported_s = what, now_s
        typer.echo(f"{what}, {done:.0%} done{_left(now_s - self._started_s, done)}", err=True)


def _left(passed_s: float, done: float) -> str:
    """Empty if too little is done to estimate it."""
    if not 0.02 < done < 1.0:
        return ""
    left_s = passed_s * (1.0 - done) / done
    return f", about {left_s:.0f} s left" if left_s < 90 else f", about {left_s / 60:.0f} min left"
