"""Make the subject bundle of one person from recorded runs.

``python -m training.calibration RUN... --decoder linear --labels trial_type --out BUNDLE``
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mindsight import assets
from mindsight.errors import BadRequest, MindsightError, ModelMismatch
from mindsight.evaluation.verdict import Verdict, verdict_of
from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_encoder_of, load_generator
from mindsight.generators.sampling.presets import PRESETS, preset_of
from mindsight.ingest import IngestOptions
from mindsight.progress import Progress
from mindsight.reconstruction_fit import FitMeter
from mindsight.retrieval import CandidatePool, ReducedIndex
from mindsight.scanner.echoes import parse_echo
from mindsight.settings import read_settings
from mindsight.stages import STAGES
from mindsight.subjects.bundle.description import REPORT, REPORT_PAGE
from mindsight.subjects.bundle.folder import Bundle, require_new
from mindsight.weights.device import choose
from training.calibration.fits import N_TRIALS, Reconstructor
from training.calibration.linear_bundle import BY_RUN, calibrate_linear
from training.calibration.record import Calibrated
from training.calibration.released_bundle import Released, calibrate_released
from training.calibration.runs import Labels
from training.calibration.summary import summary

USAGE = 2  # exit code of a wrong command line


@dataclass(frozen=True)
class Given:
    """The command line."""

    runs: list[Path]
    out: Path
    labels: Labels
    pool: Path | None
    echo: str
    preset: str | None
    subject: str
    reconstructions: int
    in_pool_prior: float | None
    decoder: str
    weights: Path | None
    mask: Path | None
    layer: int
    fixed_basis: bool
    fast_motion: bool
    fast: str | None
    revised: str | None
    final: str | None


_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_DECODER = "Decoder"
_BETAS = "Betas, in calibration and in sessions with this bundle"


def _wait(stage: str, default: str) -> Any:
    text = f"time from a trial's onset to its {stage} result: seconds (7.5s) or volumes (5v) (default {default})"
    return typer.Option(metavar="WAIT", help=text, rich_help_panel=_BETAS)


@_app.command(epilog="Example:\n\nmindsight calibrate run-1 run-2 --labels trial_type --out bundle/")
def calibrate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="folders of recorded runs, two or more")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="folder to make; must not exist")],
    labels: Annotated[
        Literal["trial_type", "stim_file"], typer.Option(help="column of the events that names what was shown")
    ] = "trial_type",
    pool: Annotated[
        Path | None,
        typer.Option(
            help="candidate pool to decode into (made by mindsight pool build); labels name its candidates by id or by"
            " file name. Without a pool, the labels are the candidates"
        ),
    ] = None,
    echo: Annotated[
        str, typer.Option(help="for runs with several echoes: the number of one, or combine; default: the first")
    ] = "",
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(sorted(PRESETS)),
            help="sampler of reconstructions, for an SDXL unCLIP; default: the generator's own",
        ),
    ] = None,
    subject: Annotated[str, typer.Option(help="pseudonym of the subject")] = "sub-01",
    reconstructions: Annotated[
        int,
        typer.Option(
            min=0,
            help="trials to reconstruct at each stage with the generator of this machine's service, so that a session"
            " can rate how well a reconstruction fits; 0: none. Needs a pool of image tokens",
        ),
    ] = N_TRIALS,
    in_pool_prior: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="let the ranking guide reconstructions, with the probability P beforehand that an image is in the"
            " pool:"
            " candidates that explain what was decoded then give their own tokens; default: by the decoder alone",
        ),
    ] = None,
    decoder: Annotated[
        Literal["linear", "mindeye2"],
        typer.Option(
            help="linear: fitted to the runs; mindeye2: existing weights, with --weights, --mask and --pool",
            rich_help_panel=_DECODER,
        ),
    ] = "linear",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="mindeye2 only: folder that mindsight convert mindeye2 wrote; the weights are not changed",
            rich_help_panel=_DECODER,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="mindeye2 only: NIfTI of the voxels that the weights read, on the runs' grid", rich_help_panel=_DECODER
        ),
    ] = None,
    layer: Annotated[
        int, typer.Option(help="mindeye2 only: which of several subjects' ridge layers", rich_help_panel=_DECODER)
    ] = 0,
    fixed_basis: Annotated[
        bool,
        typer.Option(
            "--fixed-basis",
            help="use one drift basis for the planned run, so that betas of finished trials change with new data only",
            rich_help_panel=_BETAS,
        ),
    ] = False,
    fast_motion: Annotated[
        bool,
        typer.Option(
            "--fast-motion",
            help="estimate head motion in half the time, at twice the error",
            rich_help_panel=_BETAS,
        ),
    ] = False,
    fast: Annotated[str | None, _wait("fast", "7.5s")] = None,
    revised: Annotated[str | None, _wait("revised", "27.5s")] = None,
    final: Annotated[str | None, _wait("final", "the end of the run")] = None,
) -> None:
    """Make the subject bundle of one person from recorded runs."""
    if preset is not None and preset not in PRESETS:
        raise typer.BadParameter(f"expected --preset {', '.join(sorted(PRESETS))}, got {preset!r}")
    if decoder == "linear" and (weights or mask or layer):
        raise typer.BadParameter("--weights, --mask and --layer need --decoder mindeye2")
    if decoder == "linear" and preset is not None and preset_of(preset).needs_start:
        raise typer.BadParameter(f"{preset} needs --decoder mindeye2: it starts from a low-level image")
    if in_pool_prior is not None and not 0.0 < in_pool_prior < 1.0:
        raise typer.BadParameter(f"expected --in-pool-prior between 0 and 1, got {in_pool_prior:g}")
    if not re.fullmatch(r"sub-[A-Za-z0-9]+", subject):
        raise typer.BadParameter(f"expected a subject like sub-01, got {subject!r}")
    given = Given(
        runs, out, labels, pool, echo, preset, subject, reconstructions, in_pool_prior, decoder, weights, mask, layer,
        fixed_basis, fast_motion, fast, revised, final,
    )  # fmt: skip
    require_new(out)  # before minutes of work
    with Progress() as progress:
        bundle, verdict = (_linear if decoder == "linear" else _released)(given, progress)
    print(summary(bundle))
    print(f"{verdict.headline}: {' '.join(verdict.reasons)}")
    print(out / REPORT / REPORT_PAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, 1 after an error in one line on stderr, 130 after Ctrl-C."""
    try:
        _app(arguments, prog_name="mindsight calibrate")
    except MindsightError as error:
        print(f"mindsight: {error} [{error.code}]", file=sys.stderr)
        return 1
    except SystemExit as ended:
        if ended.code == USAGE:  # as argparse does: to whoever called
            raise
        return int(ended.code or 0)
    return 0


def _linear(given: Given, progress: Progress) -> tuple[Bundle, Verdict]:
    options, echo = _options(given), parse_echo(given.echo)
    pool = None if given.pool is None else CandidatePool.load(given.pool)
    now, reconstructor = datetime.now(UTC), _reconstructor(given, pool)
    made = calibrate_linear(
        given.runs, given.labels, given.subject, now, options, pool, echo, reconstructor, given.in_pool_prior, progress
    )
    return _saved(made, given)


def _released(given: Given, progress: Progress) -> tuple[Bundle, Verdict]:
    if given.weights is None or given.mask is None or given.pool is None:
        raise BadRequest("expected --weights, --mask and --pool with --decoder mindeye2", code="calibration.weights")
    options, echo = _options(given), parse_echo(given.echo)
    pool = CandidatePool.load(given.pool)
    released = Released(given.weights, given.mask, pool, ReducedIndex.beside(given.pool, pool), given.layer)
    subject, created, reconstructor = given.subject, datetime.now(UTC), _reconstructor(given, pool)
    with tempfile.TemporaryDirectory() as scratch:
        made = calibrate_released(
            released,
            given.runs,
            given.labels,
            subject,
            created,
            Path(scratch),
            options,
            echo,
            reconstructor,
            given.in_pool_prior,
            progress,
        )
        return _saved(made, given)


def _saved(made: Calibrated, given: Given) -> tuple[Bundle, Verdict]:
    """The bundle with its report and the sampler that is asked for."""
    bundle = made.bundle
    if given.preset is not None:
        bundle = replace(bundle, sampling=replace(bundle.sampling, generator=SampleOptions(preset=given.preset)))
    return replace(made, bundle=bundle).save(given.out, template=True), verdict_of(made.record)


def _reconstructor(given: Given, pool: CandidatePool | None) -> Reconstructor | None:
    """The generator of this machine's service; None where there is nothing to draw, or no encoder to measure with."""
    if given.reconstructions == 0 or pool is None or len(pool.token_shape) != 2:
        return None
    settings = read_settings()
    folder, placement = settings.generator_dir or assets.GENERATOR, choose(settings.device)
    with placement.memory_reported():
        generator = load_generator(folder, placement)
        try:
            meter = FitMeter(load_encoder_of(folder, placement), generator)
        except ModelMismatch as error:
            print(f"fits of reconstructions are not calibrated: {error} [{error.code}]", file=sys.stderr, flush=True)
            return None
    return Reconstructor(generator, meter, given.reconstructions, SampleOptions(preset=given.preset))


def _options(given: Given) -> IngestOptions:
    """Betas are z-scored by run. Raises BadRequest (``calibration.wait``) for a wait that cannot be read."""
    waits: dict[str, Any] = {}
    for stage in STAGES:
        text = getattr(given, stage)
        if text is None:
            continue
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*s|(\d+)\s*v", text)
        if found is None:
            raise BadRequest(f"expected --{stage} like 7.5s or 5v, got {text!r}", code="calibration.wait")
        if found[1] is not None:
            waits[f"{stage}_s"] = float(found[1])
        else:
            waits[f"{stage}_volumes"] = int(found[2])
    return replace(BY_RUN, mode="fixed" if given.fixed_basis else "nilearn", fast_motion=given.fast_motion, **waits)
