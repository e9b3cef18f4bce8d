"""A volume is a trace: its steps as the messages state them, no identity, the same again when they are sent twice."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mindsight.bus import Bus, EmbeddedServer, Log
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.processes import module_command
from mindsight.protocol import (
    BetaReady,
    EventAdded,
    Message,
    Reconstruction,
    ReconstructionFit,
    Result,
    RunEnded,
    VolumeProcessed,
    VolumeReceived,
    dump_message,
)
from mindsight.protocol.messages import StageLatency
from mindsight.settings import Settings
from workers.traces.follower import Follower
from workers.traces.process import Sender
from workers.traces.spans import Span

S, D = "session-1", "0" * 64


def recorded(session: str = S) -> list[Message]:
    """Two volumes, a beta with the second and one with the run's end, in the order of a log."""
    of: dict[str, Any] = {"session": session, "run": 1}
    first = {**of, "trial": 1, "stage": "fast"}

    def received(index: int, t: float) -> VolumeReceived:
        return VolumeReceived(**of, t=t, index=index, latency_ms=StageLatency(receive=30.0))

    def processed(index: int, t: float, **took: float) -> VolumeProcessed:
        took_ms = StageLatency(queue=5.0, motion=40.0, glm=10.0, **took)
        return VolumeProcessed(**of, t=t, index=index, censored=False, latency_ms=took_ms)

    def beta(trial: int, t: float, ms: float) -> BetaReady:
        given = {**of, "trial": trial, "stage": "fast", "n_volumes": 2, "n_voxels": 9, "flagged": False, "beta": D}
        return BetaReady(**given, t=t, latency_ms=StageLatency(beta=ms))

    def result(trial: int, t: float) -> Result:
        given = {**of, "trial": trial, "stage": "fast", "candidates": (), "pool_size": 9, "flagged": False}
        given |= {"confidence": 0.5, "null_confidence": 0.1, "chance": 0.1, "model": D, "pool": D, "n_statistics": 0}
        took = StageLatency(decode=10.0, retrieve=20.0, retrieval=50.0)
        return Result(**given, t=t, normalised_by="bundle", latency_ms=took)

    def picture(version: str, t: float, **took: float) -> Reconstruction:
        given = {**first, "version": version, "image": D, "seed": 1, "evaluations": 4, "generator": D}
        return Reconstruction(**given, t=t, latency_ms=StageLatency(**took))

    fit = {**first, "image": D, "token_cosine": 0.5, "encoder": D, "latency_ms": StageLatency(embed=100.0)}
    return [
        EventAdded(**of, t=99.0, trial=1, onset_s=0.0, duration_s=3.0, candidate="a-secret", label="cat"),
        received(0, 100.0),
        processed(0, 100.06),
        received(1, 102.0),
        beta(1, 102.08, 80.0),
        result(1, 102.13),  # inference is faster than ingest's last message about the volume
        processed(1, 102.09, estimate=15.0),
        picture("preview", 102.4, preview=200.0, reconstruction=320.0),
        picture("full", 103.0, generate=800.0, reconstruction=920.0),
        ReconstructionFit(**fit, t=103.2),
        RunEnded(**of, t=110.0, n_volumes=2),
        beta(2, 110.2, 200.0),
        result(2, 110.3),
    ]


def tree(spans: tuple[ReadableSpan, ...]) -> dict[str, dict[str, tuple[float, float, str | None]]]:
    """Root of each trace -> name -> start and end in seconds, parent."""
    names = {span.context.span_id: span.name for span in spans}
    roots = {span.context.trace_id: f"{span.name} {span.start_time / 1e9:.2f}" for span in spans if span.parent is None}
    found: dict[str, dict[str, tuple[float, float, str | None]]] = {}
    for span in spans:
        parent = None if span.parent is None else names[span.parent.span_id]
        times = round(span.start_time / 1e9, 3), round(span.end_time / 1e9, 3)
        found.setdefault(roots[span.context.trace_id], {})[span.name] = (*times, parent)
    return found


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with EmbeddedServer(Settings(data_dir=tmp_path)), closing(Bus.from_settings(Settings(data_dir=tmp_path))) as bus:
        yield bus


def log_all(bus: Bus, messages: list[Message]) -> None:
    log = Log(bus, messages[0].session, "messages")
    for message in messages:
        log.append(f"test-{log.last_seq()}", dump_message(message))


def opened(bus: Bus, session: str = S) -> None:
    Sessions(bus).create(SessionRecord(session=session, subject="sub-secret", opened_t=1.0))


def test_a_volume_is_a_trace_with_all_its_steps(bus: Bus) -> None:
    exporter = InMemorySpanExporter()
    sent: list[Span] = []
    sender = Sender(exporter)
    follower = Follower(bus, lambda spans: (sent.extend(spans), sender(spans))[-1])
    follower.look()
    opened(bus)
    messages = recorded()
    log_all(bus, messages[:6])
    follower.look()
    log_all(bus, messages[6:])
    follower.look()
    follower.look()
    spans = exporter.get_finished_spans()
    assert tree(spans) == {
        "volume 99.97": {
            "volume": (99.97, 100.06, None),
            "receive": (99.97, 100.0, "volume"),
            "queue": (100.0, 100.005, "volume"),
            "motion": (100.005, 100.045, "volume"),
            "glm": (100.045, 100.055, "volume"),
        },
        "volume 101.97": {
            "volume": (101.97, 102.09, None),
            "receive": (101.97, 102.0, "volume"),
            "queue": (102.0, 102.005, "volume"),
            "motion": (102.005, 102.045, "volume"),
            "glm": (102.045, 102.055, "volume"),
            "estimate": (102.055, 102.07, "volume"),
            "beta": (102.0, 102.08, "volume"),
            "retrieval": (102.08, 102.13, "beta"),
            "decode": (102.1, 102.11, "retrieval"),
            "retrieve": (102.11, 102.13, "retrieval"),
            "reconstruction": (102.08, 103.0, "beta"),
            "preview": (102.2, 102.4, "reconstruction"),
            "generate": (102.2, 103.0, "reconstruction"),
            "embed": (103.1, 103.2, "beta"),
        },
        "run end 110.00": {
            "run end": (110.0, 110.2, None),
            "beta": (110.0, 110.2, "run end"),
            "retrieval": (110.25, 110.3, "beta"),
            "decode": (110.27, 110.28, "retrieval"),
            "retrieve": (110.28, 110.3, "retrieval"),
        },
    }
    assert len({span.context.span_id for span in spans}) == len(spans) == len(sent)
    text = "".join(span.to_json() for span in spans)
    assert S in text
    assert not [secret for secret in ("secret", "cat", D) if secret in text]
    again = InMemorySpanExporter()
    Sender(again)(sent)
    assert [span.context for span in again.get_finished_spans()] == [span.context for span in spans]


@pytest.fixture
def collector() -> Iterator[tuple[str, queue.Queue[ExportTraceServiceRequest]]]:
    taken: queue.Queue[ExportTraceServiceRequest] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            taken.put(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


def test_the_process_sends_them_by_otlp(
    bus: Bus, tmp_path: Path, collector: tuple[str, queue.Queue[ExportTraceServiceRequest]]
) -> None:
    url, taken = collector
    expected = {"volume", "beta", "decode", "generate"}
    environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    command = module_command("workers.traces")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mindsight traces ready\n"
        found: set[str] = set()
        for number in range(60):  # what was there at its first look it leaves out, and a look may come between messages
            opened(bus, f"session-{number}")
            log_all(bus, recorded(f"session-{number}"))
            with suppress(queue.Empty):
                while not found >= expected:
                    (resource,) = taken.get(timeout=1.5).resource_spans
                    found |= {span.name for span in resource.scope_spans[0].spans}
            if found >= expected:
                break
        process.terminate()
        assert process.wait(30) == 0
    assert found >= expected
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "mindsight"


def test_without_an_address_it_says_so_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    done = subprocess.run(
        module_command("workers.traces"), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("traces: expected where traces go in OTEL_EXPORTER_OTLP_ENDPOINT")
    assert done.stderr.count("\n") == 1
