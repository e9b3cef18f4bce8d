from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from mindsight.cli.style import AsJson, example, show, show_rows
from mindsight.extras import need_server
from mindsight.progress import Progress

engine_app = typer.Typer(help="Engines: what makes a generator fast on one machine.", no_args_is_help=True)

Generator = Annotated[
    Path | None, typer.Option(help="folder of a generator; default: MINDSIGHT_GENERATOR_DIR, else the one that ships")
]


@engine_app.command(
    "build", epilog=example("mindsight engine build onnx", "mindsight engine build tensorrt --card 8.9 --card 12.0")
)
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
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Build an engine into MINDSIGHT_DATA_DIR/engines. No card is needed for it, nor for verifying onnx."""
    need_server("mindsight engine")
    from mindsight.generators.engines.folder import read_description
    from mindsight.operations.engine import build as build_engine
    from mindsight.settings import read_settings

    settings = read_settings()
    with Progress(quiet=as_json) as progress:
        folder = build_engine(_folder(generator), engine, settings.engines_dir, card or [], progress)
    description = read_description(folder)
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    cards = f" for {', '.join(description.capabilities)}" if description.capabilities else ""
    text = (
        f"{folder}: {', '.join(description.graphs)} by {description.runtime}{cards}, {n_bytes:,} bytes\n"
        f"not yet verified: run mindsight engine verify {folder.name} on the machine that will run it"
    )
    facts = {"engine": folder.name, "folder": str(folder), "runtime": description.runtime, "bytes": n_bytes}
    show(text, facts | {"networks": list(description.graphs), "cards": list(description.capabilities)}, as_json)


@engine_app.command("list", epilog=example("mindsight engine list"))
def list_engines(as_json: AsJson = False) -> None:
    """List the engines in MINDSIGHT_DATA_DIR/engines, and which of them were verified on which device."""
    need_server("mindsight engine")
    from mindsight.operations.engine import listed
    from mindsight.settings import read_settings

    engines_dir = read_settings().engines_dir
    facts: list[dict[str, object]] = []
    rows: list[tuple[str, ...]] = []
    for one in listed(engines_dir):
        if one.description is None:
            facts.append({"engine": one.folder.name, "problem": one.problem})
            rows.append((one.folder.name, "", "", "", one.problem))
            continue
        verified = None if one.verified is None else one.verified.device
        made = one.description
        facts.append(
            {"engine": one.folder.name, "generator": made.source, "networks": dict(made.precision)}
            | {"runtime": made.runtime, "cards": list(made.capabilities), "verified_on": verified}
        )
        cards = f" for {', '.join(made.capabilities)}" if made.capabilities else ""
        networks = ", ".join(f"{name} in {kind}" for name, kind in made.precision.items())
        state = "not verified" if verified is None else f"verified on {verified}"
        rows.append((one.folder.name, made.source[:12], networks, made.runtime + cards, state))
    none = f"no engines in {engines_dir}: mindsight engine build"
    show_rows(("engine", "generator", "networks", "runtime", "state"), rows, facts, as_json, none)


@engine_app.command("verify", epilog=example("mindsight engine verify onnx-3f2a1b"))
def verify(
    name: Annotated[str, typer.Argument(help="name of the engine, as mindsight engine list shows it")],
    generator: Generator = None,
    as_json: AsJson = False,
) -> None:
    """Run an engine beside the eager networks on fixed inputs. Workers use an engine only after this."""
    need_server("mindsight engine")
    from mindsight.operations.engine import verify as verify_engine
    from mindsight.settings import read_settings

    record = verify_engine(read_settings().engines_dir / name, _folder(generator))
    errors = ", ".join(f"{network} {error:.1e}" for network, error in record.errors.items())
    facts = {"engine": name, "device": record.device, "errors": dict(record.errors)}
    show(f"{name} computes on {record.device} what eager does; relative error: {errors}", facts, as_json)


@engine_app.command("bench", epilog=example("mindsight engine bench --json"))
def bench(generator: Generator = None, as_json: AsJson = False) -> None:
    """Time a generator's networks on every engine that this machine can use; compare what they compute with eager."""
    need_server("mindsight engine")
    from mindsight.operations.engine import bench as bench_engines
    from mindsight.settings import read_settings

    timings = list(bench_engines(_folder(generator), read_settings().engines_dir))
    rows = [(one.engine, one.network, one.batch, f"{one.milliseconds:.2f}", f"{one.error:.1e}") for one in timings]
    columns = ("engine", "network", "batch", "ms", "relative error")
    show_rows(columns, rows, [asdict(one) for one in timings], as_json, "nothing could be timed")


def _folder(generator: Path | None) -> Path:
    from mindsight import assets
    from mindsight.settings import read_settings

    return generator or read_settings().generator_dir or assets.GENERATOR
