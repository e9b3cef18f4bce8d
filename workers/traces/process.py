"""``python -m workers.traces``: sends what the follower finds by OTLP over HTTP.

Nothing waits for this process. While nobody takes the spans, they are given up, and its log says so once.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from mindsight.bus import Bus
from mindsight.errors import BadRequest, BusUnavailable, NotInstalled
from mindsight.settings import Settings, traces_wanted
from workers.process import run_process
from workers.traces.follower import Follower

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from workers.traces.spans import Span

LOOK_S = 1.0


class Sender:
    """Converts spans and sends them."""

    def __init__(self, exporter: SpanExporter) -> None:
        from workers.traces.otlp import resource

        self._exporter, self._resource = exporter, resource()
        self._is_taken = True

    def __call__(self, spans: list[Span]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        from workers.traces.otlp import readable

        taken = self._exporter.export(readable(spans, self._resource)) is SpanExportResult.SUCCESS
        if taken != self._is_taken:
            text = "are taken again" if taken else "are not taken and are given up: check OTEL_EXPORTER_OTLP_ENDPOINT"
            print(f"traces: spans {text}", file=sys.stderr, flush=True)
        self._is_taken = taken


def _prepare(_: Settings) -> None:
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.exporter") is None:
        raise NotInstalled('traces need OpenTelemetry, not installed here: pip install "mindsight[otel]"')
    if not traces_wanted():
        raise BadRequest(
            "expected where traces go in OTEL_EXPORTER_OTLP_ENDPOINT, got nothing: for instance http://localhost:4318",
            code="settings.invalid",
        )


def _loop(_: Settings, bus: Bus, stop: threading.Event) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a traceback for each failed try
    exporter = OTLPSpanExporter()
    follower = Follower(bus, Sender(exporter))
    while not stop.is_set():
        with suppress(BusUnavailable):  # it comes back, and what was logged meanwhile is read then
            follower.look()
        stop.wait(LOOK_S)
    exporter.shutdown()  # type: ignore[no-untyped-call]


def main() -> int:
    return run_process("traces", _prepare, _loop)
