"""``python -m workers.inference``: takes betas from the work queue; each gives a result, then a reconstruction.

Knows nothing of volumes or of order: what depends on order comes with the beta. A retrieval takes milliseconds and a
reconstruction a hundred times as long, so reconstructions have their own queue and their own thread, which prefers the
freshest trial.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mindsight import assets
from mindsight.blobs import open_blobs
from mindsight.bus import MAX_DELIVERIES, Bus, Job, WorkQueue
from mindsight.captions import Captioner
from mindsight.errors import BusUnavailable, Conflict, MindsightError, StorageFull
from mindsight.generators.base import Generator, SampleOptions
from mindsight.generators.engines.registry import put_to_work
from mindsight.generators.refiner.refiner import Refiner, require_captions
from mindsight.generators.registry import load_generator
from mindsight.protocol.work import BetaWork, dump_work, parse_refinement, parse_work
from mindsight.settings import Settings
from mindsight.weights.device import HOST, Placement, choose
from workers.inference.bundles import MAY_PASS, LoadedBundles
from workers.inference.drawing import Drawing
from workers.inference.fits import Fits
from workers.inference.publish import SessionLogs, Source
from workers.inference.refining import Interrupted, Refining
from workers.inference.results import identity_of, read_betas, result_of
from workers.inference.schedule import choose as choose_picture
from workers.inference.schedule import put_aside, read
from workers.process import BUS_DEADLINE_S, STORAGE_S, run_process

BLOCK_S = 0.25
STALE_S = 10.0  # after this, the jobs of a worker that died go to another


def warm_generator(settings: Settings, placement: Placement = HOST) -> Generator:
    """The generator, after one image and its preview, so that the first reconstruction is as fast as the rest.

    Raises MindsightError (``device.memory``) where the card is too small for it; ``engine.*`` codes of
    ``put_to_work`` if the engine cannot be used.
    """
    with placement.memory_reported():
        generator = load_generator(settings.generator_dir or assets.GENERATOR, placement)
        put_to_work(settings.engine, generator, settings.engines_dir)
        blank = {name: np.zeros((1, *space.shape), np.float32) for name, space in generator.spaces.items()}
        for _ in generator.versions(blank, 0, SampleOptions()):
            pass
    return generator


def load_captioner(settings: Settings, placement: Placement = HOST) -> Captioner | None:
    """None if no folder is set. Raises MindsightError (``device.memory``) if the card is too small for it."""
    if settings.captions_dir is None:
        return None
    with placement.memory_reported():
        return Captioner.load(settings.captions_dir, placement)


def load_refiner(settings: Settings, placement: Placement = HOST) -> Refiner | None:
    """None if no folder is set.

    Raises BadRequest (``settings.refiner``) without a captioner, MindsightError (``device.memory``), and what
    ``Refiner.load`` raises.
    """
    if settings.refiner_dir is None:
        return None
    require_captions(settings.captions_dir)
    with placement.memory_reported():
        return Refiner.load(settings.refiner_dir, placement)


@dataclass(frozen=True)
class Task:
    """A job, what to do with it, and what the trial lacks if that cannot be done."""

    job: Job
    work: Source
    carry_out: Callable[[], None]
    lack: str


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
    refiner: Refiner | None = None
    _failure: Exception | None = None

    def __post_init__(self) -> None:
        self.betas = WorkQueue(self.bus, "inference", stale_s=STALE_S)
        self.pictures = WorkQueue(self.bus, "pictures", stale_s=STALE_S)
        self.blobs = open_blobs(self.settings)
        self.logs = SessionLogs(self.bus)
        lowlevel = self.refiner is not None  # it is blended into the refined image
        self.bundles = LoadedBundles(
            self.settings, self.bus, self.blobs, self.generator, self.placement, lowlevel=lowlevel
        )
        self.refinements = WorkQueue(self.bus, "refinements", stale_s=STALE_S)
        self.refining: Refining | None = None
        fits = Fits(self.logs, self.settings, self.generator, self.placement)
        self.drawing = Drawing(
            self.logs, self.blobs, self.bundles, self.generator, self.captioner, self.placement, fits
        )
        if self.refiner is not None:
            self.drawing.refinements = self.refinements
            self.refining = Refining(self.logs, self.blobs, self.refiner, self.placement, fits)

    def run(self) -> None:
        """Retrieve, and reconstruct in a second thread, until ``stop`` is set; waits for a bus that is away.

        Raises what ends either of the two.
        """
        drawing = threading.Thread(target=self._draw_until_stopped, name="drawing")
        drawing.start()
        try:
            with self.placement.stream(urgent=True):
                self._work_on(self._next_beta, self.bundles.prepare)
        finally:
            self.stop.set()
            drawing.join()
        if self._failure is not None:
            raise self._failure

    def _draw_until_stopped(self) -> None:
        try:
            with self.placement.stream(urgent=False):
                self._work_on(self._next_picture, self.drawing.prepare_next)
        except Exception as error:  # handed to the main thread, which ends the process with it
            self._failure = error
            self.stop.set()

    def _work_on(self, take: Callable[[], Task | None], idle: Callable[[], None]) -> None:
        while not self.stop.is_set():
            try:
                task = take()
                if task is None:
                    idle()
                else:
                    self._do(task)
            except BusUnavailable as error:
                print(f"inference: {error}", file=sys.stderr, flush=True)
                self.bus.wait_ready(BUS_DEADLINE_S, self.stop)
            except StorageFull:
                self.stop.wait(STORAGE_S)

    def _next_beta(self) -> Task | None:
        job = self.betas.take(self.name, BLOCK_S)
        if job is None:
            return None
        work = read(job, parse_work)
        if work is None:
            put_aside(job)
            return None
        return Task(job, work, lambda: self.retrieve(work), f"no {work.stage} result")

    def _next_picture(self) -> Task | None:
        chosen = choose_picture(self.pictures, self.name, BLOCK_S)
        if chosen is None:
            return self._next_refinement()
        work, carry_out = chosen.work, self.drawing.skip if chosen.is_overtaken else self.drawing.draw
        lack = f"no reconstruction or caption of its {work.stage} result"
        return Task(chosen.job, work, lambda: carry_out(work), lack)

    def _next_refinement(self) -> Task | None:
        """The last image that waits to be refined, when nothing waits to be drawn."""
        if self.refining is None:
            return None
        waiting = self.refinements.waiting(self.name)
        job = next(filter(None, (self.refinements.claim(one, self.name) for one in waiting)), None)
        if job is None:
            return None
        work, refine = read(job, parse_refinement), self.refining.refine
        if work is None:
            put_aside(job)
            return None
        lack = f"no refinement of its {work.made.stage} reconstruction"
        return Task(job, work.made, lambda: refine(work, self._is_urgent), lack)

    def _is_urgent(self) -> bool:
        """Whether a refinement must not go on."""
        return self.stop.is_set() or bool(self.pictures.waiting(self.name))

    def _do(self, task: Task) -> None:
        """One job. A job that cannot be carried out is reported in the session, and not tried again."""
        try:
            self._carry_out(task)
        except Interrupted:
            task.job.release()
        except (BusUnavailable, StorageFull):
            raise  # the job stays with this worker, and is delivered again
        except MindsightError as error:
            self._give_up(task, error)
        except Exception as error:
            if isinstance(error, MAY_PASS) and task.job.deliveries < MAX_DELIVERIES:
                raise
            traceback.print_exc()
            times = "once" if task.job.deliveries == 1 else f"{task.job.deliveries} times"
            text = f"it failed {times} ({type(error).__name__}): report this fault"
            self._give_up(task, MindsightError(text, code="inference.fault"))
        else:
            task.job.ack()

    def _carry_out(self, task: Task) -> None:
        """Until payloads can be stored: no other job could be carried out meanwhile, and each delivery counts."""
        refused = False
        while True:
            try:
                with self.placement.memory_reported():
                    task.carry_out()
                break
            except StorageFull as error:
                if not refused:
                    print(f"inference: waiting: {error}", file=sys.stderr, flush=True)
                refused = True
                if self.stop.wait(STORAGE_S):
                    raise
        if refused:
            print("inference: payloads can be stored again", file=sys.stderr, flush=True)

    def _give_up(self, task: Task, error: MindsightError) -> None:
        try:
            self.logs.warn(task.work, error, task.lack)
        except Conflict as closed:  # its session was archived without it: there is nobody left to tell
            print(f"inference: {task.lack}, for which its session did not wait: {closed}", file=sys.stderr, flush=True)
            task.job.ack()
        else:
            task.job.reject(f"{error.code}: {error}")

    def retrieve(self, work: BetaWork) -> None:
        """Decode one beta and publish the result."""
        loaded = self.bundles.get(work.bundle)
        betas = read_betas(work, loaded.bundle, self.blobs)
        retrieval = loaded.decoder.retrieve(
            *betas, pairs=work.pairs, stage=work.stage, n_run=work.n_run, trial=work.trial
        )
        # latencies differ between attempts: two results are the same if they follow from the same
        self.logs.publish("result", work, result_of(work, loaded, retrieval), identity_of(work, loaded.bundle))
        if retrieval.condition:
            self.drawing.keep(work, retrieval)
            self.pictures.put(work.key, dump_work(work), identity=work.beta)


def main() -> int:
    name = f"{socket.gethostname()}-{os.getpid()}"
    loaded: list[tuple[Generator, Captioner | None, Placement, Refiner | None]] = []

    def load(settings: Settings) -> None:
        placement = choose(settings.device)
        with placement.stream(urgent=False):
            generator, captioner = warm_generator(settings, placement), load_captioner(settings, placement)
            loaded.append((generator, captioner, placement, load_refiner(settings, placement)))

    return run_process(
        "inference",
        load,
        lambda settings, bus, stop: InferenceWorker(settings, bus, name, stop, *loaded[0]).run(),
        lambda: loaded[0][2].describe(),
    )
