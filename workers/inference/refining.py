"""Jobs of the queue of refinements: a reconstruction and its caption give a later version of it.

Knows nothing of queues or threads. Whoever runs a job may end it between any two steps; it is then begun again later.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindsight.blobs import Blobs
from mindsight.errors import MindsightError
from mindsight.files.images import png_bytes
from mindsight.generators.refiner.refiner import Refiner
from mindsight.protocol import StageLatency
from mindsight.protocol.work import RefinementWork
from mindsight.weights.device import Placement
from workers.clock import CLOCK
from workers.inference.fits import Fits
from workers.inference.publish import SessionLogs


class Interrupted(Exception):
    """A refinement was left for something more urgent."""


@dataclass
class Refining:
    """Refines one image at a time."""

    logs: SessionLogs
    blobs: Blobs
    refiner: Refiner
    placement: Placement
    fits: Fits
    _without_memory: set[str] = field(default_factory=set)  # sessions

    def refine(self, work: RefinementWork, is_urgent: Callable[[], bool]) -> None:
        """Publish the refined version.

        is_urgent : whether something else waits; asked between steps

        Raises Interrupted. Without memory for it, the session has no refinements from then on.
        """
        if work.made.session in self._without_memory:
            return
        try:
            with self.placement.memory_reported():
                self._refine(work, is_urgent)
        except MindsightError as error:
            if error.code != "device.memory":
                raise
            self._without_memory.add(work.made.session)
            text = (
                f"the memory of {self.placement.device} is used up; from here on no image is refined. Unset"
                " MINDSIGHT_REFINER_DIR before the next session, or choose a card of 24 GB"
            )
            self.logs.warn_once(work.made, error.code, "refinement", text)

    def _refine(self, work: RefinementWork, is_urgent: Callable[[], bool]) -> None:
        began_s = time.perf_counter()
        lowlevel = None if work.lowlevel is None else self._image(work.lowlevel)
        refined: NDArray[np.uint8] | None = None
        for refined in self.refiner.refine(self._image(work.made.image), work.caption, work.made.seed, lowlevel):
            if refined is None and is_urgent():
                raise Interrupted
        assert refined is not None
        now = time.time()
        message = work.made.model_copy(
            update={
                "id": 0,
                "t": now,
                "version": "refined",
                "image": self.blobs.put(png_bytes(refined)),
                "evaluations": work.made.evaluations + self.refiner.evaluations,
                "generator": self.refiner.digest,
                "latency_ms": StageLatency(
                    refine=1e3 * (time.perf_counter() - began_s),
                    reconstruction=CLOCK.since_ms(work.logged_t),
                ),
            }
        )
        self.logs.publish("refined", work.made, message, f"{work.made.image} {self.refiner.digest}")
        self.fits.measure_refined(message, refined, work.made)

    def _image(self, digest: str) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(self.blobs.get(digest))) as image:
            return np.array(image.convert("RGB"))
