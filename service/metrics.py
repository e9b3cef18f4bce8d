"""What Prometheus reads of a service: requests, sessions, queues, latencies, disk. No name, no session's id is in it.

Everything but the requests comes from the bus when it is asked for, so that one place has the figures of all workers.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsight.bus import Bus, WorkQueue
from mindsight.errors import BusUnavailable, NotFound
from mindsight.journal.jobs import QUEUE as JOBS
from mindsight.journal.read import Journal, entries
from mindsight.journal.sessions import Sessions
from mindsight.protocol import BetaReady, Reconstruction, Result, VolumeProcessed, Warned, read_message

QUEUES = ("inference", "pictures", "refinements", JOBS)
MAX_MESSAGES = 2000  # of one session at a time: the rest comes with the next scrape
MAX_CODES = 200  # of warnings, that a label may tell apart
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meter:
    """Counts since the gateway started. ``scrape`` may be called by several threads."""

    def __init__(self, bus: Bus, data_dir: Path) -> None:
        self._bus, self._data_dir = bus, data_dir
        self._registry = registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._read: dict[str, int] | None = None
        self._codes: set[str] = set()
        self._requests = Counter(
            "mindsight_requests", "HTTP requests", ["method", "route", "status"], registry=registry
        )
        self._request_s = Histogram(
            "mindsight_request_seconds", "Time until a response began", ["route"], buckets=SECONDS, registry=registry
        )
        self._messages = Counter("mindsight_messages", "Messages of sessions", ["type"], registry=registry)
        self._warnings = Counter("mindsight_warnings", "Warnings of sessions", ["level", "code"], registry=registry)
        self._latency_s = Histogram(
            "mindsight_latency_seconds", "Time that each step took", ["step"], buckets=SECONDS, registry=registry
        )
        self._sessions = Gauge("mindsight_sessions", "Sessions that are not archived", ["state"], registry=registry)
        self._jobs = Gauge("mindsight_queue_jobs", "Jobs that are not done", ["queue"], registry=registry)
        self._dead = Gauge("mindsight_dead_jobs", "Jobs that could not be done", ["queue"], registry=registry)
        self._bus_up = Gauge("mindsight_bus_up", "1 while the bus answers", registry=registry)
        self._free = Gauge("mindsight_disk_free_bytes", "Free space of the data folder's disk", registry=registry)
        self._scrape_s = Gauge("mindsight_scrape_seconds", "Time that the last look at the bus took", registry=registry)

    def request(self, method: str, route: str, status: int, taken_s: float) -> None:
        self._requests.labels(method, route, status).inc()
        self._request_s.labels(route).observe(taken_s)

    def scrape(self) -> bytes:
        """The figures of now, in Prometheus's text format."""
        with self._lock:
            started_s = time.monotonic()
            self._free.set(shutil.disk_usage(self._data_dir).free)
            try:
                self._look()
                self._bus_up.set(1)
            except BusUnavailable:
                self._bus_up.set(0)
            self._scrape_s.set(time.monotonic() - started_s)
            return generate_latest(self._registry)

    def _look(self) -> None:
        states = {record.session: record.state for record in Sessions(self._bus).unfinished()}
        for state in ("open", "closed"):
            self._sessions.labels(state).set(sum(one == state for one in states.values()))
        for name in QUEUES:
            queue = WorkQueue(self._bus, name)
            self._jobs.labels(name).set(len(queue))
            self._dead.labels(name).set(queue.n_dead())
        self._follow(states)

    def _follow(self, states: Mapping[str, str]) -> None:
        """Count what sessions have reported since the last look; what was there at the first is not counted."""
        if self._read is None:
            self._read = {session: Journal(self._bus, session).messages.last_seq() for session in states}
        for session in {*states, *self._read}:
            after = self._read.get(session, 0)
            seq = after
            try:
                for entry in islice(entries(Journal(self._bus, session).messages, after), MAX_MESSAGES):
                    self._count(read_message(entry.payload, entry.seq, session))
                    seq = entry.seq
            except NotFound:  # erased
                pass
            finally:  # a bus that went away meanwhile lets nothing be counted twice
                self._read[session] = seq
            if session not in states and seq == after:
                del self._read[session]  # archived, and all of it is counted

    def _count(self, message: object) -> None:
        self._messages.labels(getattr(message, "type", "unknown")).inc()
        if isinstance(message, Warned):
            self._warnings.labels(message.level, self._code(message.code)).inc()
        elif isinstance(message, VolumeProcessed):
            self._observe(message.latency_ms, ("receive", "queue", "motion", "glm"))
        elif isinstance(message, BetaReady):
            self._observe(message.latency_ms, ("beta",))
        elif isinstance(message, Result):
            self._observe(message.latency_ms, ("decode", "retrieve", "retrieval"))
        elif isinstance(message, Reconstruction):
            self._observe(message.latency_ms, ("generate", "reconstruction"))

    def _observe(self, latency_ms: object, steps: tuple[str, ...]) -> None:
        for step in steps:
            taken_ms = getattr(latency_ms, step)
            if taken_ms is not None:
                self._latency_s.labels(step).observe(taken_ms / 1e3)

    def _code(self, code: str) -> str:
        if code not in self._codes and len(self._codes) >= MAX_CODES:
            return "other"
        self._codes.add(code)
        return code


class Measured:
    """Counts HTTP requests by the address that their route has, never by what was asked for."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None) or "other"
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._meter.request(method, route, message["status"], time.monotonic() - started_s)
            await send(message)

        await self._app(scope, receive, send_and_count)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
