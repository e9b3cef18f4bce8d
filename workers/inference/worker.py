"""``python -m workers.inference``: takes betas from the work queue; each gives a result, then a reconstruction.

Knows nothing of volumes or of order: what depends on order comes with the beta. A retrieval takes milliseconds and a
reconstruction a hundred times as long, so reconstructions have their own queue and their own thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mindsight import assets
from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Job, Log, WorkQueue
from mindsight.captions import Captioner
from mindsight.decoding import Retrieval
from mindsight.errors import BusUnavailable, MindsightError, StorageFull
from mindsight.generators.base import Generator, SampleOptions
from mindsight.generators.engines.registry import put_to_work
from mindsight.generators.registry import load_generator
from mindsight.protocol import Message, Warned, dump_message
from mindsight.protocol.work import BetaWork, dump_work, parse_work
from mindsight.settings import Settings
from mindsight.weights.device import HOST, Placement, choose
from workers.inference.bundles import LoadedBundle, LoadedBundles
from workers.inference.reconstructions import caption_of, reconstruction_of, seed_of
from workers.inference.results import identity_of, read_betas, result_of
from workers.process import BUS_DEADLINE_S, run_process

BLOCK_S = 0.25
KEPT_RETRIEVALS = 64  # whose reconstruction is still to come; a bigG condition has 1.7 MB
STALE_S = 10.0  # after this, the jobs of a worker that died go to another


def warm_generator(settings: Settings, placement: Placement = HOST) -> Generator:
    """The generator, after one image through it, so that the first reconstruction is as fast as the rest.

    Raises MindsightError (``device.memory``) where the card is too small for it; ``engine.*`` codes of
    ``put_to_work`` if the engine cannot be used.
    """
    with placement.memory_reported():
        generator = load_generator(settings.generator_dir or assets.GENERATOR, placement)
        put_to_work(settings.engine, generator, settings.engines_dir)
        blank = {name: np.zeros((1, *space.shape), np.float32) for name, space in generator.spaces.items()}
        generator(blank, 0, SampleOptions())
    return generator


def load_captioner(settings: Settings, placement: Placement = HOST) -> Captioner | None:
    """None if no folder is set. Raises MindsightError (``device.memory``) if the card is too small for it."""
    if settings.captions_dir is None:
        return None
    with placement.memory_reported():
        return Captioner.load(settings.captions_dir, placement)


@dataclass
class InferenceWorker:
    """Carries out jobs, one at a time per queue, until ``stop`` is set."""

    settings: Settings
    bus: Bus
    name: str
    stop: threading.Event
    generator: Generator
    captioner: Captioner | None = None
    placement: Placement = HOST
    _failure: Exception | None = None
    _next: tuple[LoadedBundle, int] | None = None
    _retrievals: OrderedDict[tuple[str, str], Retrieval] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.betas = WorkQueue(self.bus, "inference", stale_s=STALE_S)
        self.pictures = WorkQueue(self.bus, "pictures", stale_s=STALE_S)
        self.blobs = BlobStore(self.settings.blobs_dir)
        self.bundles = LoadedBundles(self.settings, self.bus, self.blobs, self.generator, self.placement)

    def run(self) -> None:
        """Retrieve, and reconstruct in a second thread, until ``stop`` is set; waits for a bus that is away.

        Raises what ends either of the two.
        """
        reconstructing = threading.Thread(target=self._reconstruct_until_stopped, name="reconstructing")
        reconstructing.start()
        try:
            with self.placement.stream(urgent=True):
                self._work_on(self.betas, self.retrieve, "no {stage} result", self.bundles.prepare)
        finally:
            self.stop.set()
            reconstructing.join()
        if self._failure is not None:
            raise self._failure

    def _reconstruct_until_stopped(self) -> None:
        lack = "no reconstruction or caption of its {stage} result"
        try:
            with self.placement.stream(urgent=False):
                self._work_on(self.pictures, self.reconstruct, lack, self.prepare_next)
        except Exception as error:  # handed to the main thread, which ends the process with it
            self._failure = error
            self.stop.set()

    def _work_on(
        self, queue: WorkQueue, carry_out: Callable[[BetaWork], None], lack: str, idle: Callable[[], None]
    ) -> None:
        while not self.stop.is_set():
            try:
                job = queue.take(self.name, BLOCK_S)
                if job is None:
                    idle()
                else:
                    self._do(job, carry_out, lack)
            except BusUnavailable as error:
                print(f"inference: {error}", file=sys.stderr, flush=True)
                self.bus.wait_ready(BUS_DEADLINE_S)

    def _do(self, job: Job, carry_out: Callable[[BetaWork], None], lack: str) -> None:
        """One job. A job that cannot be carried out is reported in the session, and not tried again.

        lack : what the trial then lacks
        """
        work = parse_work(job.payload)
        try:
            with self.placement.memory_reported():
                carry_out(work)
        except (BusUnavailable, StorageFull):
            raise  # the job stays with this worker, and is delivered again
        except MindsightError as error:
            self._warn(work, error, lack.format(stage=work.stage))
            job.reject(f"{error.code}: {error}")
        else:
            job.ack()

    def retrieve(self, work: BetaWork) -> None:
        """Decode one beta and publish the result."""
        loaded = self.bundles.get(work.bundle)
        retrieval = loaded.decoder.retrieve(*read_betas(work, loaded.bundle, self.blobs), pairs=work.pairs)
        # latencies differ between attempts: two results are the same if they follow from the same
        self._publish("result", work, result_of(work, loaded, retrieval), identity_of(work, loaded.bundle))
        if retrieval.condition:
            self._retrievals[work.key, work.beta] = retrieval
            while len(self._retrievals) > KEPT_RETRIEVALS:
                self._retrievals.popitem(last=False)
            self.pictures.put(work.key, dump_work(work), identity=work.beta)

    def reconstruct(self, work: BetaWork) -> None:
        """Publish one beta's reconstruction, and then its caption if there is a captioner."""
        loaded = self.bundles.get(work.bundle)
        betas = read_betas(work, loaded.bundle, self.blobs)
        retrieval = self._retrievals.pop((work.key, work.beta), None)
        if retrieval is None:  # another worker decoded the beta, or this one was restarted since
            retrieval = loaded.decoder.retrieve(*betas)
        seed = seed_of(work, loaded.bundle.digest)
        made = loaded.decoder.reconstruct(retrieval, seed)
        following = work.model_copy(update={"trial": work.trial + 1})
        self._next = (loaded, seed_of(following, loaded.bundle.digest))
        message = reconstruction_of(work, loaded, betas, retrieval.confidence, made, seed, self.generator, self.blobs)
        self._publish("reconstruction", work, message, identity_of(work, loaded.bundle, self.generator.digest))
        if self.captioner is not None:
            captioned = caption_of(work, self.captioner, next(iter(made.features.values())))
            self._publish("caption", work, captioned, identity_of(work, loaded.bundle, self.captioner.digest))

    def prepare_next(self) -> None:
        """Between trials: what the next one's reconstruction needs of its seed. Without memory it waits."""
        if self._next is not None:
            (loaded, seed), self._next = self._next, None
            with contextlib.suppress(MindsightError), self.placement.memory_reported():
                loaded.decoder.expect(seed)

    def _publish(self, kind: str, work: BetaWork, message: Message, identity: str) -> None:
        key = f"{kind}-{work.run}-{work.trial}-{work.stage}"
        Log(self.bus, work.session, "messages").append(key, dump_message(message), identity=identity)

    def _warn(self, work: BetaWork, error: MindsightError, lack: str) -> None:
        warning = Warned(
            session=work.session,
            t=time.time(),
            code=error.code,
            text=f"trial {work.trial} of run {work.run} has {lack}: {error}",
            run=work.run,
            trial=work.trial,
        )
        self._publish(f"warning-{error.code}", work, warning, error.code)


def main() -> int:
    name = f"{socket.gethostname()}-{os.getpid()}"
    loaded: list[tuple[Generator, Captioner | None, Placement]] = []

    def load(settings: Settings) -> None:
        placement = choose(settings.device)
        with placement.stream(urgent=False):
            loaded.append((warm_generator(settings, placement), load_captioner(settings, placement), placement))

    return run_process(
        "inference", load, lambda settings, bus, stop: InferenceWorker(settings, bus, name, stop, *loaded[0]).run()
    )
