"""How the machinery is: disk, bus, workers, queues. Knows nothing of sessions or of who asks."""

from __future__ import annotations

import shutil
import time

from pydantic import Field

from mindsight.bus import WorkQueue
from mindsight.journal.jobs import QUEUE as JOBS
from mindsight.journal.presence import SILENT_S, Presence, Worker
from mindsight.protocol.work import parse_work
from service.context import Gateway
from service.routes.common import Body

QUEUES = ("inference", "pictures", "refinements", JOBS)


class Disk(Body):
    """Of the data folder."""

    free_bytes: int
    total_bytes: int


class BusState(Body):
    round_trip_ms: float = Field(description="of one command")
    clock_offset_s: float = Field(description="its clock minus the gateway's")


class WorkerState(Worker):
    silent: bool = Field(description="whether it has not written for too long: it hangs, or its machine is away")


class Queue(Body):
    queue: str
    waiting: int = Field(description="jobs that are not done")
    dead: int = Field(description="jobs that could not be done")
    oldest_s: float | None = Field(default=None, description="how long the oldest beta has waited; null: none waits")


def disk_of(gateway: Gateway) -> Disk:
    usage = shutil.disk_usage(gateway.settings.data_dir)
    return Disk(free_bytes=usage.free, total_bytes=usage.total)


def bus_of(gateway: Gateway) -> BusState:
    """Raises BusUnavailable."""
    gateway.bus.ping()  # the first command of a process also connects
    began_s, began_t = time.perf_counter(), gateway.now()
    seconds, micros = gateway.bus.command("TIME")
    taken_s = time.perf_counter() - began_s
    offset_s = int(seconds) + int(micros) / 1e6 - (began_t + taken_s / 2)
    return BusState(round_trip_ms=round(1e3 * taken_s, 3), clock_offset_s=round(offset_s, 4))


def workers_of(gateway: Gateway) -> list[WorkerState]:
    now = gateway.now()
    return [
        WorkerState(**worker.model_dump(), silent=now - worker.seen_t > SILENT_S)
        for worker in Presence(gateway.bus).list(now)
    ]


def queues_of(gateway: Gateway) -> list[Queue]:
    return [_queue(gateway, name) for name in QUEUES]


def _queue(gateway: Gateway, name: str) -> Queue:
    queue = WorkQueue(gateway.bus, name)
    waiting = len(queue)
    oldest_s = None
    if name == "inference" and waiting:
        payload = next(iter(queue.unfinished(1)), None)
        oldest_s = None if payload is None else _age(payload, gateway.now())
    return Queue(queue=name, waiting=waiting, dead=queue.n_dead(), oldest_s=oldest_s)


def _age(payload: bytes, now: float) -> float | None:
    try:
        return max(0.0, now - parse_work(payload).logged_t)
    except ValueError:  # a worker puts aside what cannot be read
        return None
