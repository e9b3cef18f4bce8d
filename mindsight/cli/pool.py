from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mindsight.cli.options import Key, To
from mindsight.cli.style import JOB_FAILED, JOB_STOPPED, AsJson, example, show
from mindsight.extras import need_server
from mindsight.progress import Progress as Bar

if TYPE_CHECKING:
    from mindsight.retrieval import Progress

pool_app = typer.Typer(help="Candidate pools: the images that retrieval chooses from.", no_args_is_help=True)


@pool_app.command("build", epilog=example("mindsight pool build pictures/ pool/"))
def build(
    images: Annotated[Path, typer.Argument(help="a folder of PNG and JPEG, or an HDF5 file of images like NSD's")],
    out: Annotated[Path, typer.Argument(help="folder of the pool; repeat the command to resume a stopped build")],
    weights: Annotated[
        Path | None,
        typer.Option(help="OpenCLIP weights, or MindEye2's unCLIP checkpoint; default: the encoder that ships"),
    ] = None,
    model: Annotated[
        str, typer.Option(help="open_clip's configuration: a name, or a JSON file; default ViT-bigG-14")
    ] = "",
    embedding: Annotated[str, typer.Option(help="tokens or pooled")] = "tokens",
    values: Annotated[
        str,
        typer.Option(
            help="pixel values: mindeye2, as MindEye2 feeds them, or clip, as OpenCLIP does; default: by the embedding"
        ),
    ] = "",
    rows: Annotated[Path | None, typer.Option(help=".npy: which rows of the HDF5 file, numbers or bools")] = None,
    batch: Annotated[int, typer.Option(min=1, help="images embedded at once")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Embed images into a candidate pool on disk, in half precision."""
    need_server("mindsight pool")
    from mindsight.retrieval.from_files import build_from_files

    with Bar(quiet=as_json) as bar:
        pool = build_from_files(
            images, out, weights=weights, model=model, embedding=embedding, values=values, rows=rows, batch=batch,
            device=device, report=_Counter(bar),
        )  # fmt: skip
    facts = {"folder": str(out), "candidates": len(pool), "shape": list(pool.token_shape), "digest": pool.digest}
    text = f"{len(pool):,} candidates {pool.token_shape} in {out}, digest {pool.digest}\n{pool.source}"
    show(text, facts | {"source": str(pool.source)}, as_json)


class _Counter:
    """Prints skipped images, and how far the build is."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def __call__(self, progress: Progress) -> None:
        for skipped in progress.skipped:
            typer.echo(f"skipped {skipped.id}: {skipped.why}", err=True)
        self._bar(f"{progress.done:,} of {progress.n:,} images", progress.done / max(1, progress.n))


@pool_app.command(
    "send", epilog=example("mindsight pool send pictures/ scenes", failed=JOB_FAILED, stopped=JOB_STOPPED)
)
def send(
    images: Annotated[Path, typer.Argument(help="a folder of PNG and JPEG; a candidate's id is its file's name")],
    name: Annotated[str, typer.Argument(help="the pool's name at the service")],
    to: To = "",
    key: Key = "",
) -> None:
    """Upload images to the service, which builds a pool of them as a job; calibrations there name it by --pool."""
    from mindsight.cli.service import enrolment, follow

    with enrolment(to, key) as service:
        follow(service, service.build_pool(name, images))


@pool_app.command("reduce", epilog=example("mindsight pool reduce pool/ --size 2048"))
def reduce(
    pool: Annotated[Path, typer.Argument(help="folder of a pool")],
    size: Annotated[int, typer.Option(min=64, help="numbers in each candidate's sketch")] = 2048,
) -> None:
    """Sketch a pool that is too large to read for every trial: only the best sketches are then compared in full."""
    need_server("mindsight pool")
    from mindsight.retrieval.from_files import sketch_folder

    index = sketch_folder(pool, size)
    typer.echo(
        f"{len(index.pool):,} candidates in sketches of {index.size:,} numbers, {index.sketches_NM.nbytes:,} bytes"
    )


@pool_app.command("verify", epilog=example("mindsight pool verify pool/"))
def verify(pool: Annotated[Path, typer.Argument(help="folder of a pool")], as_json: AsJson = False) -> None:
    """Read a whole pool and compare it with the digest that was written with it."""
    need_server("mindsight pool")
    from mindsight.retrieval import CandidatePool

    found = CandidatePool.load(pool)
    found.verify()
    facts = {"candidates": len(found), "shape": list(found.token_shape), "digest": found.digest}
    show(
        f"{len(found):,} candidates {found.token_shape}, unchanged since written, digest {found.digest}", facts, as_json
    )
