"""Spans in the form of OpenTelemetry. Their numbers follow from what they name: sent twice, they are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

import mindsight
from workers.traces.spans import Span

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def resource() -> Resource:
    """What sends them; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` come first."""
    ours = Resource({"service.name": "mindsight", "service.version": mindsight.__version__})
    return ours.merge(OTELResourceDetector().detect())


def readable(spans: Sequence[Span], of: Resource) -> list[ReadableSpan]:
    return [
        ReadableSpan(
            name=span.name,
            context=_context(span.trace, span.key),
            parent=None if span.parent is None else _context(span.trace, span.parent),
            resource=of,
            attributes={f"mindsight.{name}": value for name, value in span.attributes.items()},
            start_time=int(span.start_t * 1e9),
            end_time=int(span.end_t * 1e9),
        )
        for span in spans
    ]


def _context(trace: str, key: str) -> SpanContext:
    return SpanContext(_number(trace, 16), _number(f"{trace}\n{key}", 8), is_remote=False, trace_flags=_SAMPLED)


def _number(name: str, n_bytes: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:n_bytes], "big")
