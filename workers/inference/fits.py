"""The fit of a reconstruction as a message, measured once the reconstruction is shown.

Knows nothing of queues or logs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from mindsight import assets
from mindsight.decoding import Reconstructed
from mindsight.errors import MindsightError
from mindsight.generators.base import Generator
from mindsight.generators.registry import load_encoder_of
from mindsight.protocol import Reconstruction, ReconstructionFit, StageLatency
from mindsight.protocol.work import BetaWork
from mindsight.reconstruction_fit import FitMeter, token_cosine
from mindsight.settings import Settings
from mindsight.weights.device import HOST, Placement
from workers.inference.bundles import LoadedBundle


@dataclass(frozen=True, slots=True)
class Fits:
    """meter : None where fits are not measured, because of ``lack`` if they were asked for."""

    meter: FitMeter | None
    lack: str | None = None


NOT_MEASURED = Fits(None)


def load_fits(settings: Settings, generator: Generator, placement: Placement = HOST) -> Fits:
    """With the encoder of the generator's tokens. Without it, or without room for it, reconstructions go on."""
    try:
        with placement.memory_reported():
            meter = FitMeter(load_encoder_of(settings.generator_dir or assets.GENERATOR, placement), generator)
    except MindsightError as error:
        print(f"inference: token cosines are not measured: {error}", file=sys.stderr, flush=True)
        return Fits(None, f"{error}")
    return Fits(meter)


def fit_of(
    work: BetaWork, loaded: LoadedBundle, made: Reconstructed, shown: Reconstruction, meter: FitMeter
) -> ReconstructionFit:
    """The message of the fit of a reconstruction, whose message is ``shown``."""
    began_s = time.perf_counter()
    encoded = meter.encoded(made.pixels)
    took_ms = 1e3 * (time.perf_counter() - began_s)
    cosine = token_cosine(encoded, meter.decoded(made.features), loaded.decoder.origin)
    return ReconstructionFit(
        session=work.session,
        t=time.time(),
        run=work.run,
        trial=work.trial,
        stage=work.stage,
        image=shown.image,
        token_cosine=cosine,
        fit_percentile=meter.percentile(cosine, work.stage, loaded.bundle.fit),
        encoder=meter.encoder_digest,
        latency_ms=StageLatency(embed=took_ms),
    )
