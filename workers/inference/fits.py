"""The fit of a reconstruction, measured and logged once the reconstruction is shown; and what it is measured with.

Knows nothing of queues.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight import assets
from mindsight.decoding import SAMPLING_BYTES
from mindsight.errors import MindsightError
from mindsight.generators.base import Generator
from mindsight.generators.registry import load_encoder_of
from mindsight.protocol import NO_FITS, Reconstruction, ReconstructionFit, StageLatency
from mindsight.reconstruction_fit import FitMeter, token_cosine
from mindsight.settings import Settings
from mindsight.subjects.bundle.fit import FitCalibration
from mindsight.weights.device import HOST, Placement
from workers.inference.publish import SessionLogs

KEPT = 8  # reconstructions whose refined version may still come; bigG's tokens have 1.7 MB


class Decoded(NamedTuple):
    """What a reconstruction is compared with: the features that it was made from, and the origin and the calibration of
    its bundle.
    """

    features: Mapping[str, NDArray[np.float32]]
    origin: NDArray[np.float32] | None
    calibration: FitCalibration | None


@dataclass
class Fits:
    """Measures reconstructions with the encoder of the generator's tokens, which ``prepare`` loads; for one thread.

    meter : None before, and where there is no such encoder or no room for it, for the reason in ``lack``
    """

    logs: SessionLogs
    settings: Settings
    generator: Generator
    placement: Placement = HOST
    meter: FitMeter | None = field(default=None, init=False)
    lack: str | None = field(default=None, init=False)
    _kept: OrderedDict[str, Decoded] = field(default_factory=OrderedDict, init=False)

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

    def measure(self, shown: Reconstruction, pixels: NDArray[np.uint8], decoded: Decoded, identity: str) -> None:
        """Log the fit of a reconstruction whose own message, ``shown``, was logged. What fails costs only the fit."""
        self.prepare()
        if self.meter is None:
            text = f"token cosines of reconstructions are not measured: {self.lack}"
            self.logs.warn_once(shown, NO_FITS, "session", text)
            return
        try:
            with self.placement.memory_reported():
                fit = fit_of(shown, pixels, decoded, self.meter)
        except MindsightError as error:
            self.logs.warn(shown, error, f"no token cosine of its {shown.stage} reconstruction")
            return
        kind = "refined.fit" if shown.version == "refined" else "reconstruction.fit"
        self.logs.publish(kind, shown, fit, f"{identity} {fit.encoder}")
        if shown.version == "full":
            self._kept[shown.image] = decoded
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def measure_refined(self, refined: Reconstruction, pixels: NDArray[np.uint8], full: Reconstruction) -> None:
        """The same for the refined version of ``full``, if that was measured by this process."""
        decoded = self._kept.pop(full.image, None)
        if decoded is not None:
            self.measure(refined, pixels, decoded, refined.generator)


def fit_of(shown: Reconstruction, pixels: NDArray[np.uint8], decoded: Decoded, meter: FitMeter) -> ReconstructionFit:
    """The message of the fit of a reconstruction. Only full versions are calibrated."""
    began_s = time.perf_counter()
    cosine = token_cosine(meter.encoded(pixels), meter.decoded(decoded.features), decoded.origin)
    return ReconstructionFit(
        session=shown.session,
        t=time.time(),
        run=shown.run,
        trial=shown.trial,
        stage=shown.stage,
        image=shown.image,
        token_cosine=cosine,
        fit_percentile=meter.percentile(cosine, shown.stage, decoded.calibration) if shown.version == "full" else None,
        encoder=meter.encoder_digest,
        latency_ms=StageLatency(embed=1e3 * (time.perf_counter() - began_s)),
    )
