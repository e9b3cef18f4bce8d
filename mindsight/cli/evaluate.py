from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.style import AsJson
from mindsight.errors import BadRequest
from mindsight.extras import need_server
from mindsight.progress import Progress


def evaluate(
    results: Annotated[
        Path, typer.Argument(help="a session's archive, or a folder with manifest.json and reconstructions or tokens")
    ],
    images: Annotated[
        Path | None, typer.Argument(help="folder only: the images that were shown, a folder, .npy or .pt")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for table.txt, evaluation.json and evaluation.html; default: ./evaluation-NAME"),
    ] = None,
    networks: Annotated[Path | None, typer.Option(help="folder with the feature networks' published files")] = None,
    image_tokens: Annotated[
        Path | None, typer.Option(help="folder only: .npy of the images' embeddings, for retrieval")
    ] = None,
    betas: Annotated[
        Path | None, typer.Option(help="folder only: .npy of measured activity, for brain correlation")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="folder only: .npz of regions, for brain correlation")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="folder only: JSON of people's captions, to compare with captions.json")
    ] = None,
    stage: Annotated[str, typer.Option(help="archive only: which results: fast, revised or final")] = "final",
    bundle: Annotated[
        Path | None, typer.Option(help="archive only: its bundle, for retrieval both ways and more controls")
    ] = None,
    generator: Annotated[Path | None, typer.Option(help="with --bundle: folder of the generator")] = None,
    allow_best_of_n: Annotated[
        bool, typer.Option(help="folder only: accept reconstructions selected as the best of several, and report it")
    ] = False,
    seed: Annotated[int, typer.Option(help="random seed of retrieval's draws and of the intervals")] = 0,
    device: Annotated[str, typer.Option(help="for the feature networks: cpu, cuda")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Measure a session: accuracy by stage and over its trials, confidence, confusion, registration; reconstructions
    by the published metrics and protocol, with controls. Writes a table, JSON and a page.
    """
    need_server("mindsight evaluate")
    from mindsight.archive.read import is_archive
    from mindsight.evaluation.from_session import SessionEvaluation
    from mindsight.evaluation.report.session_page import session_text
    from mindsight.evaluation.report.table import text_table
    from mindsight.evaluation.run import evaluate_archive, evaluate_folder

    out = out or Path(f"evaluation-{results.resolve().name}")
    with Progress(quiet=as_json) as progress:
        progress(f"reading {results.resolve().name}", 0.0)
        if is_archive(results):
            if images or image_tokens or betas or masks or captions or allow_best_of_n:
                raise BadRequest(
                    "expected an archive without the options for a folder: it holds its own images and results",
                    code="cli.evaluate",
                )
            measured = evaluate_archive(
                results,
                out,
                stage=stage,
                bundle=bundle,
                generator=generator,
                networks=networks,
                seed=seed,
                device=device,
                report=progress,
            )
        elif images is None:
            raise BadRequest(
                "expected a session's archive, or a folder of reconstructions and the images that were shown",
                code="cli.evaluate",
            )
        else:
            measured = evaluate_folder(
                results, images, out, networks=networks, image_tokens=image_tokens, betas=betas, masks=masks,
                captions=captions, allow_best_of_n=allow_best_of_n, seed=seed, device=device,
                report=progress,
            )  # fmt: skip
    if as_json:
        typer.echo((out / "evaluation.json").read_text(encoding="utf-8"))
        return
    typer.echo(session_text(measured) if isinstance(measured, SessionEvaluation) else text_table(measured))
    typer.echo(f"{out / 'evaluation.html'}")
