"""The fit of a reconstruction as a message, measured once the reconstruction is shown; and what it is measured with.

Knows nothing of queues or logs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from mindsight import assets
from mindsight.decoding import SAMPLING_BYTES, Reconstructed
from mindsight.errors import MindsightError
from mindsight.generators.base import Generator
from mindsight.generators.registry import load_encoder_of
from mindsight.protocol import Reconstruction, ReconstructionFit, StageLatency
from mindsight.protocol.work import BetaWork
from mindsight.reconstruction_fit import FitMeter, token_cosine
from mindsight.settings import Settings
from mindsight.weights.device import HOST, Placement
from workers.inference.bundles import LoadedBundle


@dataclass
class Fits:
    """The encoder of the generator's tokens, loaded by the first call of ``prepare``; for one thread.

    meter : None before, and where there is no such encoder or no room for it, for the reason in ``lack``
    """

    settings: Settings
    generator: Generator
    placement: Placement = HOST
    meter: FitMeter | None = field(default=None, init=False)
    lack: str | None = field(default=None, init=False)

    def prepare(self) -> None:
        """Load it, after the bundle of a session: retrieval and reconstruction come first on a card."""
        if self.meter is not None or self.lack is not None:
            return
        folder = self.settings.generator_dir or assets.GENERATOR
        try:
            with self.placement.memory_reported():
                self.meter = FitMeter(load_encoder_of(folder, self.placement), self.generator)
        except MindsightError as error:
            self.lack = f"{error}"
        free = self.placement.free_bytes()
        if self.meter is not None and free is not None and free < SAMPLING_BYTES:
            self.meter, self.lack = None, f"expected {SAMPLING_BYTES >> 30} GB of free memory beside its encoder"
        if self.lack is not None:
            print(f"inference: token cosines are not measured: {self.lack}", file=sys.stderr, flush=True)


def fit_of(
    work: BetaWork, loaded: LoadedBundle, made: Reconstructed, shown: Reconstruction, meter: FitMeter
) -> ReconstructionFit:
    """The message of the fit of a reconstruction, whose own message is ``shown``."""
    began_s = time.perf_counter()
    encoded = meter.encoded(made.pixels)
    cosine = token_cosine(encoded, meter.decoded(made.features), loaded.decoder.origin)
    return ReconstructionFit(
        session=work.session,
        t=time.time(),
        run=work.run,
        trial=work.trial,
        stage=work.stage,
        image=shown.image,
        token_cosine=cosine,
        fit_percentile=meter.percentile(cosine, work.stage, loaded.bundle.fit) if shown.version == "full" else None,
        encoder=meter.encoder_digest,
        latency_ms=StageLatency(embed=1e3 * (time.perf_counter() - began_s)),
    )
