"""The subject bundles that an inference worker holds: those of sessions that are not over.

Knows nothing of betas.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field

from mindsight.blobs import Blobs
from mindsight.bus import Bus
from mindsight.decoding import Retrieval, TrialDecoder
from mindsight.errors import Conflict, MindsightError
from mindsight.generators.base import Generator
from mindsight.journal.sessions import Sessions
from mindsight.processes import return_free_memory
from mindsight.settings import Settings
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.device import HOST, Placement

PREPARE_EVERY_S = 1.0
AGAIN_S = 30.0  # after which a bundle that cannot be used is read again: that takes seconds, in which nobody is decoded
MAY_PASS = (RuntimeError, MemoryError, OSError)
"""Errors that may lie with the card or the machine: a new process may not meet them. Any other lies with the trial or
with the bundle: a new process would meet it again, and keep other sessions waiting while it starts."""


@dataclass(frozen=True, eq=False)
class LoadedBundle:
    """A bundle that is ready to decode.

    images : digest of each candidate's image in the blob store, by candidate
    """

    bundle: Bundle
    decoder: TrialDecoder
    images: dict[str, str]


@dataclass
class LoadedBundles:
    """Bundles by name, loaded once; may be used by several threads.

    lowlevel : see ``TrialDecoder``
    """

    settings: Settings
    bus: Bus
    blobs: Blobs
    generator: Generator
    placement: Placement = HOST
    lowlevel: bool = False
    _loaded: dict[str, LoadedBundle] = field(default_factory=dict)
    _refused: dict[str, tuple[MindsightError, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _prepared_s: float = -math.inf

    @property
    def names(self) -> set[str]:
        """The bundles that are loaded."""
        return set(self._loaded)

    def get(self, name: str | None) -> LoadedBundle:
        """The bundle, which is loaded if it is not yet. Raises Conflict (``session.no_bundle``) and as ``Bundle``."""
        if name is None:
            raise Conflict("this session has no bundle to decode with: open it with one", code="session.no_bundle")
        with self._lock:
            if name not in self._loaded:
                refused, until_s = self._refused.get(name, (None, -math.inf))
                if refused is not None and time.monotonic() < until_s:
                    raise refused.with_traceback(None)
                self._loaded[name] = self._read(name)
            return self._loaded[name]

    def prepare(self, every_s: float = PREPARE_EVERY_S) -> None:
        """Load the bundles of sessions that are not over, so that a session's first beta finds its own loaded, and
        release those of no such session. Does nothing within ``every_s`` of the last call.
        """
        now_s = time.monotonic()
        if now_s < self._prepared_s + every_s:
            return
        self._prepared_s = now_s
        wanted = {record.bundle for record in Sessions(self.bus).unfinished() if record.bundle is not None}
        with self._lock:
            released = set(self._loaded) - wanted
            for name in released:
                del self._loaded[name]
        if released:
            return_free_memory()
        with self._lock:
            self._refused = {name: at for name, at in self._refused.items() if name in wanted and at[1] > now_s}
            unknown = wanted - set(self._loaded) - set(self._refused)
        for name in sorted(unknown):
            try:
                self.get(name)
            except MindsightError as error:
                print(f"inference: bundle {name} cannot be used: {error}", file=sys.stderr, flush=True)

    def _read(self, name: str) -> LoadedBundle:
        """Load it; what is wrong with the bundle itself is remembered."""
        try:
            return self._load(name)
        except MindsightError as error:
            if not error.is_transient and error.code != "device.memory":
                self._refused[name] = error, time.monotonic() + AGAIN_S
            raise
        except Exception as error:
            if isinstance(error, MAY_PASS):
                raise
            traceback.print_exc()
            text = f"the bundle {name} cannot be loaded ({type(error).__name__}): report this fault"
            refused = MindsightError(text, code="inference.fault")
            self._refused[name] = refused, time.monotonic() + AGAIN_S
            raise refused from None

    def _load(self, name: str) -> LoadedBundle:
        """Load it, and decode and reconstruct once, so that the first beta is as fast as the rest."""
        bundle = Bundle.load(self.settings.bundles_dir / name)
        with self.placement.memory_reported():
            decoder = TrialDecoder(
                bundle,
                clock=time.perf_counter,
                generator=self.generator,
                placement=self.placement,
                lowlevel=self.lowlevel,
            )
            statistics = bundle.statistics
            # waits for the card, and with that for the weights: the other thread may use them from its own stream
            warm = decoder.retrieve(statistics.mean_V, statistics.mean_V, statistics.std_V)
        if warm.condition:
            _reconstruct_once(name, decoder, warm, self.placement)
        if decoder.mismatch is not None:
            print(f"inference: no reconstructions with bundle {name}: {decoder.mismatch}", file=sys.stderr, flush=True)
        if decoder.off_card is not None:
            print(f"inference: pool of bundle {name}: {decoder.off_card}", file=sys.stderr, flush=True)
        pool = bundle.pool
        images = {
            id_: self.blobs.put(path.read_bytes())
            for id_, path in zip(pool.ids, pool.images or [], strict=False)
            if path is not None
        }
        return LoadedBundle(bundle, decoder, images)


def _reconstruct_once(name: str, decoder: TrialDecoder, retrieval: Retrieval, placement: Placement) -> None:
    """Retrieval goes on where the memory for a reconstruction is lacking."""
    try:
        with placement.memory_reported():
            for _ in decoder.versions(retrieval, 0):
                pass
    except MindsightError as error:
        if error.code != "device.memory":
            raise
        print(f"inference: no reconstruction with bundle {name} so far: {error}", file=sys.stderr, flush=True)
