"""Make the subject bundle of one person from recorded runs.

``python -m training.calibration RUN... --decoder linear --labels trial_type --out BUNDLE``
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mindsight import assets
from mindsight.errors import BadRequest, MindsightError, ModelMismatch
from mindsight.evaluation.verdict import Verdict, verdict_of
from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_encoder_of, load_generator
from mindsight.generators.sampling.presets import PRESETS, preset_of
from mindsight.ingest import IngestOptions
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
from training.calibration.summary import summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 after an error in one line on stderr."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.decoder == "linear" and (given.weights or given.mask or given.layer):
        parser.error("--weights, --mask and --layer need --decoder mindeye2")
    if given.decoder == "linear" and given.preset is not None and preset_of(given.preset).needs_start:
        parser.error(f"--preset {given.preset} starts from a low-level image, and needs --decoder mindeye2")
    if given.in_pool_prior is not None and not 0.0 < given.in_pool_prior < 1.0:
        parser.error(f"expected --in-pool-prior between 0 and 1, got {given.in_pool_prior:g}")
    if given.reconstructions < 0:
        parser.error(f"expected --reconstructions 0 or more, got {given.reconstructions}")
    if not re.fullmatch(r"sub-[A-Za-z0-9]+", given.subject):
        parser.error(f"expected a subject like sub-01, got {given.subject!r}")
    try:
        require_new(given.out)  # before minutes of work
        bundle, verdict = _linear(given) if given.decoder == "linear" else _released(given)
    except MindsightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(bundle))
    print(f"{verdict.headline}: {' '.join(verdict.reasons)}")
    print(given.out / REPORT / REPORT_PAGE)
    return 0


def _linear(given: argparse.Namespace) -> tuple[Bundle, Verdict]:
    options, echo = _options(given), parse_echo(given.echo)
    pool = None if given.pool is None else CandidatePool.load(given.pool)
    now, reconstructor = datetime.now(UTC), _reconstructor(given, pool)
    made = calibrate_linear(
        given.runs, given.labels, given.subject, now, options, pool, echo, reconstructor, given.in_pool_prior
    )
    return _saved(made, given)


def _released(given: argparse.Namespace) -> tuple[Bundle, Verdict]:
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
        )
        return _saved(made, given)


def _saved(made: Calibrated, given: argparse.Namespace) -> tuple[Bundle, Verdict]:
    """The bundle with its report and the sampler that is asked for."""
    bundle = made.bundle
    if given.preset is not None:
        bundle = replace(bundle, sampling=replace(bundle.sampling, generator=SampleOptions(preset=given.preset)))
    return replace(made, bundle=bundle).save(given.out, template=True), verdict_of(made.record)


def _reconstructor(given: argparse.Namespace, pool: CandidatePool | None) -> Reconstructor | None:
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


def _options(given: argparse.Namespace) -> IngestOptions:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mindsight calibrate", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a recorded run")
    parser.add_argument(
        "--labels",
        choices=["trial_type", "stim_file"],
        default="trial_type",
        help="column of the events that names what was shown (default trial_type)",
    )
    parser.add_argument(
        "--pool",
        type=Path,
        metavar="POOL",
        help="candidate pool to decode into (made by mindsight pool build); labels name its candidates by id or by file"
        " name. Without a pool, the labels are the candidates",
    )
    parser.add_argument(
        "--echo", default="", help="for runs with several echoes: the number of one, or combine (default: the first)"
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="sampler of reconstructions, for an SDXL unCLIP (default: the generator's own)",
    )
    parser.add_argument("--subject", default="sub-01", help="pseudonym of the subject (default sub-01)")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to make; must not exist")
    parser.add_argument(
        "--reconstructions",
        type=int,
        default=N_TRIALS,
        metavar="N",
        help="trials to reconstruct at each stage with the generator of this machine's service, so that a session can"
        f" rate how well a reconstruction fits (default {N_TRIALS}; 0: none). Needs a pool of image tokens",
    )
    parser.add_argument(
        "--in-pool-prior",
        type=float,
        metavar="P",
        help="let the ranking guide reconstructions, with the probability P beforehand that an image is in the pool:"
        " candidates that explain what was decoded then give their own tokens (default: by the decoder alone)",
    )
    _add_decoder(parser.add_argument_group("decoder"))
    _add_betas(parser.add_argument_group("betas, in calibration and in sessions with this bundle"))
    return parser


def _add_decoder(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--decoder",
        choices=["linear", "mindeye2"],
        default="linear",
        help="linear: fitted to the runs (default); mindeye2: existing weights, with --weights, --mask and --pool",
    )
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="mindeye2 only: folder that mindsight convert mindeye2 wrote; the weights are not changed",
    )
    group.add_argument(
        "--mask", type=Path, metavar="NIFTI", help="mindeye2 only: voxels that the weights read, on the runs' grid"
    )
    group.add_argument(
        "--layer", type=int, default=0, help="mindeye2 only: which of several subjects' ridge layers (default 0)"
    )


def _add_betas(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fixed-basis",
        action="store_true",
        help="use one drift basis for the planned run, so that betas of finished trials change with new data only",
    )
    group.add_argument(
        "--fast-motion", action="store_true", help="estimate head motion in half the time, at twice the error"
    )
    for stage, default in {"fast": "7.5s", "revised": "27.5s", "final": "the end of the run"}.items():
        group.add_argument(
            f"--{stage}",
            metavar="WAIT",
            help=f"time from a trial's onset to its {stage} result: seconds (7.5s) or volumes (5v) (default {default})",
        )
