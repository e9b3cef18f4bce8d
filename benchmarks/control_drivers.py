"""The processes that make the traffic of ``bench_control.py``: gateway, ingest workers with their sessions, inference.

What they write and read is the service's own code, on a client that costs less (``lean_bus.py``); nothing is computed.
Each tells what it saw when it ends. Ages are from the moment at which a volume is due, seconds since the Unix epoch.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, cast

from lean_bus import LeanBus

from mindsight.bus import Bus, Lease, Questions, WorkQueue
from mindsight.errors import LeaseLost, MindsightError
from mindsight.files.digest import sha256_of
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.protocol import BetaReady, Candidate, Result, StageLatency, VolumeProcessed, dump_message
from mindsight.protocol.inputs import AddEvent, TakeVolume, parse_input
from mindsight.protocol.work import BetaWork, dump_work, parse_work
from mindsight.settings import Settings
from workers.inference.publish import SessionLogs
from workers.ingest.session_process import follow
from workers.ingest.worker import WAIT_S, Held, IngestWorker

TR_S = 1.0
TRIAL_VOLUMES, BETA_VOLUMES = 8, 3  # from trial to trial, and to its beta: so early that a short run has them
GATEWAY_THREADS = 16
BLOCK_S, STALE_S = 0.25, 10.0  # of the inference worker


@dataclass
class Follower:
    """In place of a session's runner: reads and writes the bus as that does, and computes nothing.

    ages : of each volume when it was due, and when its message was in the log, seconds since the Unix epoch
    """

    lease: Lease
    bus: Bus
    ages: list[tuple[float, float]]
    position: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        journal = Journal(self.bus, self.lease.session)
        self.inputs, self.messages = journal.inputs, journal.messages
        self.queue = WorkQueue(self.bus, "inference")
        self.queue.admit(self.lease.fence)
        self.questions = Questions(self.bus, self.lease.session)
        self._trials: dict[int, int] = {}  # by the volume that brings their beta

    def take(self, entry: Any) -> None:
        read = parse_input(entry.payload)
        if isinstance(read, AddEvent) and read.trial is not None:
            self._trials[round(read.onset_s / TR_S) + BETA_VOLUMES] = read.trial
        elif isinstance(read, TakeVolume):
            if (trial := self._trials.pop(read.index, None)) is not None:
                self._publish_beta(read, trial)
            self._publish_volume(read)
        self.position = entry.seq

    def tidy(self) -> None:
        """A snapshot every 20 volumes is a file, and one small read."""

    def look_up(self) -> None:
        self.questions.take()

    def save(self) -> None:
        """A file, too."""

    def _publish_volume(self, volume: TakeVolume) -> None:
        message = VolumeProcessed(
            session=self.lease.session, t=time.time(), run=volume.run, index=volume.index,
            translation_mm=(0.1234567, -0.2345678, 0.3456789), rotation_deg=(0.1234567, -0.2345678, 0.3456789),
            fd_mm=0.1234567, dvars_percent=1.2345678, tsnr=67.891234, residual=0.0123456, censored=False,
            latency_ms=StageLatency(queue=1.234567, motion=12.345678, glm=0.456789),
        )  # fmt: skip
        key = f"processed-{volume.run}-{volume.index}"
        appended = self.messages.append(key, dump_message(message), identity=key, fence=self.lease.fence)
        if not appended.duplicate and volume.acquired_s is not None:
            self.ages.append((volume.acquired_s, time.time()))

    def _publish_beta(self, volume: TakeVolume, trial: int) -> None:
        logged_t, key = time.time(), f"beta-{volume.run}-{trial}-fast"
        beta, statistics = (sha256_of(f"{self.lease.session} {key} {what}".encode()) for what in ("beta", "statistics"))
        ready = BetaReady(
            session=self.lease.session, t=logged_t, run=volume.run, trial=trial, stage="fast", n_volumes=volume.index,
            n_voxels=15_000, flagged=False, beta=beta, statistics=statistics, n_run=trial,
            latency_ms=StageLatency(beta=43.21),
        )  # fmt: skip
        self.messages.append(key, dump_message(ready), identity=key, fence=self.lease.fence)
        work = BetaWork(
            session=self.lease.session, run=volume.run, trial=trial, stage="fast", beta=beta, statistics=statistics,
            bundle="control", logged_t=logged_t,
        )  # fmt: skip
        self.queue.put(work.key, dump_work(work), identity=beta, fence=self.lease.fence)


class SessionThread(threading.Thread):
    """In place of a session's process."""

    def __init__(self, worker: Leading, lease: Lease) -> None:
        super().__init__(name=lease.session, daemon=True)
        self.lost_lease = False
        self._worker, self._lease = worker, lease

    def run(self) -> None:
        bus = LeanBus.from_settings(self._worker.settings)
        try:
            follower = Follower(replace(self._lease, bus=bus), bus, self._worker.ages)
            follow(cast(Any, follower), ctypes.c_longlong(0), self._worker.stop)
        except MindsightError as error:
            self.lost_lease = isinstance(error, LeaseLost)
            self._worker.problems.append(f"{self.name} began again: {error}")

    def terminate(self) -> None:
        """Another worker has its lease, which it notices with its next write."""


@dataclass
class Leading(IngestWorker):
    """An ingest worker whose sessions are threads."""

    led: Any = None  # how many sessions are led by all workers
    ages: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def look(self) -> None:
        """As it does every LOOK_S."""
        self._take_sessions("one more worker")

    def _start(self, session: str, lease: Lease) -> None:
        thread = SessionThread(self, lease)
        self._held[session] = Held(lease, cast(Any, thread), ctypes.c_longlong(0))
        thread.start()
        with self.led.get_lock():
            self.led.value += 1

    def _follow_up(self) -> None:
        self.stop.wait(WAIT_S)
        for session, held in list(self._held.items()):
            thread = cast(SessionThread, held.process)
            if not thread.is_alive() and not self.stop.is_set():
                del self._held[session]
                if not thread.lost_lease:
                    self._start(session, held.lease)

    def _end_all(self) -> None:
        for held in self._held.values():
            held.process.join()


def lead(settings: Settings, led: Any, stop: Any, told: Connection) -> None:
    """The process of an ingest worker."""
    context = multiprocessing.get_context("forkserver")  # starts nothing
    worker = Leading(settings, LeanBus.from_settings(settings), threading.Event(), context, led=led)
    leading = threading.Thread(target=worker.run)
    leading.start()
    stop.wait()
    worker.stop.set()
    leading.join()
    told.send({"ages": worker.ages, "problems": worker.problems})


def log_volume(bus: Bus, session: str, index: int, due_t: float) -> None:
    """What the gateway does on the bus for a volume, and for a trial that begins with it."""
    Journal(bus, session).run(1)  # an unknown run is refused before the body is read
    now, recorder = time.time(), Recorder(bus, session, time.time)
    volume = TakeVolume(
        t=now, run=1, index=index, digest=secrets.token_hex(32), shape=(120, 120, 78), nbytes=2_246_912,
        acquired_s=due_t, acked_t=now,
    )  # fmt: skip
    recorder.take_volume(volume, received_ms=12.345)
    if index % TRIAL_VOLUMES == int(session[-4:]) % TRIAL_VOLUMES:  # not all in one second
        trial = AddEvent(
            t=now, run=1, trial=index // TRIAL_VOLUMES + 1, onset_s=index * TR_S, duration_s=3.0,
            stimulus=secrets.token_hex(32), label="a label",
        )  # fmt: skip
        recorder.add_events(1, [trial])


def send(
    settings: Settings, sessions: Sequence[str], start_t: float, n_volumes: int, until_t: float, told: Connection
) -> None:
    """The process of a gateway: each volume when it is due, and those of one session in their order; none later."""
    taken: list[tuple[float, float, float]] = []  # when it was due, taken up, and in the log
    places, bus = list(enumerate(sessions)), LeanBus.from_settings(settings)

    def take(mine: Sequence[tuple[int, str]]) -> None:
        for index in range(n_volumes):
            for place, session in mine:
                due_t = start_t + (index + place / len(sessions)) * TR_S
                time.sleep(max(0.0, due_t - time.time()))
                began_t = time.time()
                if began_t > until_t:
                    return
                log_volume(bus, session, index, due_t)
                taken.append((due_t, began_t, time.time()))

    threads = [threading.Thread(target=take, args=(places[i::GATEWAY_THREADS],)) for i in range(GATEWAY_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send({"taken": taken})


def decode_next(bus: Bus, block_s: float) -> float | None:
    """Take a beta and log a result; when the beta was logged."""
    job = WorkQueue(bus, "inference", STALE_S).take("inference", block_s)
    if job is None:
        return None
    work = parse_work(job.payload)
    best = Candidate(id="nsd-12345", label="a label", image=secrets.token_hex(32), score=0.1234567, probability=0.123)
    result = Result(
        session=work.session, t=time.time(), run=work.run, trial=work.trial, stage=work.stage, candidates=(best,) * 10,
        confidence=0.345678, null_confidence=0.123456, margin=0.0123456, null_share=0.0123, chance=0.001,
        pool_size=1000, model=secrets.token_hex(32), pool=secrets.token_hex(32), normalised_by="running",
        latency_ms=StageLatency(decode=1.2345, retrieve=2.3456, retrieval=12.3456),
    )  # fmt: skip
    SessionLogs(bus).publish("result", work, result, work.beta)
    job.ack()
    return work.logged_t


def decode(settings: Settings, stop: Any, told: Connection) -> None:
    """The process of an inference worker."""
    decoded: list[tuple[float, float]] = []  # when the beta was logged, and when its result
    bus = LeanBus.from_settings(settings)
    while not stop.is_set():
        if (logged_t := decode_next(bus, BLOCK_S)) is not None:
            decoded.append((logged_t, time.time()))
    told.send({"decoded": decoded})


def set_plainly(settings: Settings, per_s: float, seconds: float, told: Connection) -> None:
    """A process that does nothing but SET, as often as it is told or can: milliseconds of each."""
    took_ms: list[float] = []
    value, bus = bytes(200), LeanBus.from_settings(settings)
    bus.ping()
    told.send("ready")
    told.recv()
    began_s = time.perf_counter()
    for k in itertools.count():
        now_s = time.perf_counter()
        if now_s - began_s > seconds:
            break
        time.sleep(max(0.0, began_s + k / per_s - now_s))
        asked_s = time.perf_counter()
        bus.command("SET", f"plain:{k % 1000}", value)
        took_ms.append(1e3 * (time.perf_counter() - asked_s))
    told.send(took_ms)
