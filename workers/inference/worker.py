"""``python -m workers.inference``: takes betas from the work queue, answers each with a retrieval, then with a picture.

Knows nothing of volumes or of order: what depends on order came with the beta. A retrieval takes milliseconds and a
picture a hundred times as long, so pictures are a queue of their own, drawn in a thread of their own.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from mindsight import assets
from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Job, Log, WorkQueue
from mindsight.captions import Captioner
from mindsight.decoding import Retrieval, TrialDecoder, z_scored
from mindsight.errors import BusUnavailable, Conflict, MindsightError, StorageFull
from mindsight.files.images import png_bytes
from mindsight.generators.base import Generator, SampleOptions
from mindsight.generators.registry import load_generator
from mindsight.journal.sessions import Sessions
from mindsight.preprocessing.figures.brain_map import draw_brain_map
from mindsight.protocol import (
    Candidate,
    Captioned,
    Message,
    PairChoice,
    Reconstruction,
    Result,
    StageLatency,
    Warned,
    dump_message,
)
from mindsight.protocol.work import BetaWork, dump_work, parse_work
from mindsight.settings import Settings
from mindsight.subjects.bundle.folder import Bundle
from workers.process import BUS_DEADLINE_S, run_process

BLOCK_S = 0.25
PREPARE_EVERY_S = 1.0
KEPT_RETRIEVALS = 64  # of answers whose picture is still to be drawn; a bigG condition has 1.7 MB
STALE_S = 10.0  # what a worker that died had in its hands goes to another after this


def seed_of(work: BetaWork, model: str) -> int:
    """The seed of one answer: a repeat of the job makes the same picture."""
    name = f"{work.session}/{work.run}/{work.trial}/{work.stage}/{model}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1


def warm_generator(settings: Settings) -> Generator:
    """The generator, after it has made one image: the reconstruction of the first beta is as fast as the rest."""
    generator = load_generator(settings.generator_dir or assets.GENERATOR)
    blank = {name: np.zeros((1, *space.shape), np.float32) for name, space in generator.spaces.items()}
    generator(blank, 0, SampleOptions())
    return generator


def load_captioner(settings: Settings) -> Captioner | None:
    """None where no folder is named."""
    return None if settings.captions_dir is None else Captioner.load(settings.captions_dir)


@dataclass
class LoadedBundle:
    """A bundle that decodes, and where the pictures of its pool lie in the blob store."""

    bundle: Bundle
    decoder: TrialDecoder
    images: dict[str, str]


@dataclass
class InferenceWorker:
    """Answers jobs, one at a time, until ``stop`` is set."""

    settings: Settings
    bus: Bus
    name: str
    stop: threading.Event
    generator: Generator
    captioner: Captioner | None = None
    _bundles: dict[str, LoadedBundle] = field(default_factory=dict)
    _failure: Exception | None = None
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _prepared_s: float = -math.inf
    _decoded: OrderedDict[tuple[str, str], Retrieval] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.betas = WorkQueue(self.bus, "inference", stale_s=STALE_S)
        self.pictures = WorkQueue(self.bus, "pictures", stale_s=STALE_S)
        self.blobs = BlobStore(self.settings.blobs_dir)

    def run(self) -> None:
        """Answer betas, and draw in a second thread, until ``stop`` is set; a bus that is away is waited for.

        Raises what ends either of the two.
        """
        drawing = threading.Thread(target=self._draw_until_stopped, name="drawing")
        drawing.start()
        try:
            self._work_on(self.betas, self.answer, "no {stage} answer", self._prepare_bundles)
        finally:
            self.stop.set()
            drawing.join()
        if self._failure is not None:
            raise self._failure

    def _draw_until_stopped(self) -> None:
        try:
            self._work_on(self.pictures, self.draw, "no picture or caption of its {stage} answer", lambda: None)
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
        """One job. What cannot be carried out is reported in the session, and not tried again.

        lack : what a trial then has
        """
        work = parse_work(job.payload)
        try:
            carry_out(work)
        except (BusUnavailable, StorageFull):
            raise  # it stays in this worker's hands, and is delivered again
        except MindsightError as error:
            self._warn(work, error, lack.format(stage=work.stage))
            job.reject(f"{error.code}: {error}")
        else:
            job.ack()

    def answer(self, work: BetaWork) -> None:
        """One beta's retrieval."""
        loaded = self._bundle(work.bundle)
        retrieval = loaded.decoder.retrieve(*self._inputs(work, loaded.bundle), pairs=work.pairs)
        result = self._result(work, loaded, retrieval)
        # latencies differ from try to try: what makes two results the same is what went in
        key = f"result-{work.run}-{work.trial}-{work.stage}"
        Log(self.bus, work.session, "messages").append(
            key, dump_message(result), identity=_identity(work, loaded.bundle)
        )
        if retrieval.condition:
            self._decoded[work.key, work.beta] = retrieval
            while len(self._decoded) > KEPT_RETRIEVALS:
                self._decoded.popitem(last=False)
            self.pictures.put(work.key, dump_work(work), identity=work.beta)

    def draw(self, work: BetaWork) -> None:
        """One beta's picture."""
        loaded = self._bundle(work.bundle)
        beta_V, mean_V, std_V = self._inputs(work, loaded.bundle)
        retrieval = self._decoded.pop((work.key, work.beta), None)
        if retrieval is None:  # another worker answered, or this one was started since
            retrieval = loaded.decoder.retrieve(beta_V, mean_V, std_V)
        z_V = z_scored(beta_V, mean_V, std_V).reshape(-1, beta_V.shape[-1]).mean(axis=0)
        seed = seed_of(work, loaded.bundle.digest)
        made = loaded.decoder.reconstruct(retrieval, seed)
        message = Reconstruction(
            session=work.session,
            t=time.time(),
            run=work.run,
            trial=work.trial,
            stage=work.stage,
            image=self.blobs.put(png_bytes(made.pixels)),
            confidence=retrieval.confidence,
            seed=seed,
            evaluations=made.steps,
            generator=self.generator.digest,
            brain_map=self.blobs.put(
                png_bytes(draw_brain_map(loaded.bundle.space.reference, loaded.bundle.space.mask_XYZ, z_V))
            ),
            latency_ms=StageLatency(generate=made.timings_ms["generate"]),
        )
        key = f"reconstruction-{work.run}-{work.trial}-{work.stage}"
        identity = _identity(work, loaded.bundle, self.generator.digest)
        Log(self.bus, work.session, "messages").append(key, dump_message(message), identity=identity)
        if self.captioner is not None:
            self._caption(work, loaded, self.captioner, next(iter(made.features.values())))

    def _caption(
        self, work: BetaWork, loaded: LoadedBundle, captioner: Captioner, tokens_1NC: NDArray[np.float32]
    ) -> None:
        """The picture's caption, when the picture is out: nobody waits for it."""
        (text,) = captioner.caption(tokens_1NC)
        message = Captioned(
            session=work.session,
            t=time.time(),
            run=work.run,
            trial=work.trial,
            stage=work.stage,
            text=text,
            model=captioner.digest,
        )
        key = f"caption-{work.run}-{work.trial}-{work.stage}"
        identity = _identity(work, loaded.bundle, captioner.digest)
        Log(self.bus, work.session, "messages").append(key, dump_message(message), identity=identity)

    def _result(self, work: BetaWork, loaded: LoadedBundle, retrieval: Retrieval) -> Result:
        now = time.time()
        return Result(
            session=work.session,
            t=now,
            run=work.run,
            trial=work.trial,
            stage=work.stage,
            candidates=tuple(
                Candidate(
                    id=found.id,
                    label=found.label,
                    image=loaded.images.get(found.id),
                    score=found.score,
                    probability=found.probability,
                )
                for found in retrieval.candidates
            ),
            confidence=retrieval.confidence,
            null_confidence=retrieval.null_confidence,
            margin=retrieval.margin,
            null_share=retrieval.null_share,
            chance=retrieval.chance,
            pairs=tuple(PairChoice(**asdict(choice)) for choice in retrieval.pairs),
            pool_size=len(loaded.bundle.pool),
            flagged=work.flagged,
            model=loaded.bundle.digest,
            pool=loaded.bundle.pool_digest,
            normalised_by=work.normalised_by,
            n_statistics=work.n_statistics,
            n_repeats=1 + len(work.repeats),
            latency_ms=StageLatency(
                decode=retrieval.timings_ms["decode"],
                retrieve=retrieval.timings_ms["retrieve"],
                retrieval=max(0.0, 1e3 * (now - work.logged_t)),
            ),
        )

    def _inputs(
        self, work: BetaWork, bundle: Bundle
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(V,) beta, and the mean and standard deviation it is z-scored by; (R, V) where it is averaged with others."""
        read = [
            self._input(beta, statistics, bundle)
            for beta, statistics in [(work.beta, work.statistics), *((r.beta, r.statistics) for r in work.repeats)]
        ]
        if len(read) == 1:
            return read[0]
        beta_RV, mean_RV, std_RV = (np.stack(arrays) for arrays in zip(*read, strict=True))
        return beta_RV, mean_RV, std_RV

    def _input(
        self, beta: str, statistics: str | None, bundle: Bundle
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        beta_V = np.frombuffer(self.blobs.get(beta), dtype="<f4")
        if statistics is None:
            return beta_V, bundle.statistics.mean_V, bundle.statistics.std_V
        mean_V, std_V = np.frombuffer(self.blobs.get(statistics), dtype="<f4").reshape(2, -1)
        return beta_V, mean_V, std_V

    def _bundle(self, name: str | None) -> LoadedBundle:
        if name is None:
            raise Conflict("this session has no bundle to decode with: open it with one", code="session.no_bundle")
        with self._loading:
            if name not in self._bundles:
                self._bundles[name] = self._load_bundle(name)
            return self._bundles[name]

    def _load_bundle(self, name: str) -> LoadedBundle:
        """Load it, and decode and draw once, so that the first beta is as fast as the rest."""
        bundle = Bundle.load(self.settings.bundles_dir / name)
        decoder = TrialDecoder(bundle, clock=time.perf_counter, generator=self.generator)
        statistics = bundle.statistics
        warm = decoder.retrieve(statistics.mean_V, statistics.mean_V, statistics.std_V)
        if warm.condition:
            decoder.reconstruct(warm, 0)
        pool = bundle.pool
        images = {
            id_: self.blobs.put(path.read_bytes())
            for id_, path in zip(pool.ids, pool.images or [], strict=False)
            if path is not None
        }
        return LoadedBundle(bundle, decoder, images)

    def _prepare_bundles(self) -> None:
        """Between jobs, load the bundles of sessions that are not over, so that a session's first beta finds its own
        loaded, and give back the memory of those that no such session names."""
        now_s = time.monotonic()
        if now_s < self._prepared_s + PREPARE_EVERY_S:
            return
        self._prepared_s = now_s
        wanted = {record.bundle for record in Sessions(self.bus).unfinished() if record.bundle is not None}
        with self._loading:
            for name in set(self._bundles) - wanted:
                del self._bundles[name]
        for name in sorted(wanted - set(self._bundles)):
            try:
                self._bundle(name)
            except MindsightError as error:
                print(f"inference: bundle {name} cannot be used: {error}", file=sys.stderr, flush=True)

    def _warn(self, work: BetaWork, error: MindsightError, lack: str) -> None:
        warning: Message = Warned(
            session=work.session,
            t=time.time(),
            code=error.code,
            text=f"trial {work.trial} of run {work.run} has {lack}: {error}",
            run=work.run,
            trial=work.trial,
        )
        key = f"warning-{error.code}-{work.run}-{work.trial}-{work.stage}"
        Log(self.bus, work.session, "messages").append(key, dump_message(warning), identity=error.code)


def _identity(work: BetaWork, bundle: Bundle, *more: str) -> str:
    averaged = [repeat.beta for repeat in work.repeats]
    parts = [work.beta, work.statistics or "", *averaged, bundle.digest, *more]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def main() -> int:
    name = f"{socket.gethostname()}-{os.getpid()}"
    loaded: list[tuple[Generator, Captioner | None]] = []
    return run_process(
        "inference",
        lambda settings: loaded.append((warm_generator(settings), load_captioner(settings))),
        lambda settings, bus, stop: InferenceWorker(settings, bus, name, stop, *loaded[0]).run(),
    )
