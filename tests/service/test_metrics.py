"""The figures for Prometheus: right, complete, without identities, and there while the bus is away."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mindsight.bus import Bus, Log
from mindsight.protocol import VolumeProcessed, Warned, dump_message
from mindsight.settings import Settings
from service.metrics import MAX_CODES, Meter
from support.gateway_harness import Running, payload


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text).get((name, frozenset(labels.items())), 0.0)


def test_requests_and_messages_are_counted_and_nobody_is_named(running: Running, admin: httpx.Client) -> None:
    def scraped() -> str:
        found = admin.get("/v1/metrics")
        assert (found.status_code, found.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        return found.text

    scraped()
    subject = admin.post("/v1/subjects", json={"bundle": "bundle-1"}).json()["subject"]
    session = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    before = scraped()
    assert admin.get(f"/v1/sessions/{session}").status_code == 200
    assert admin.get("/v1/sessions/DOE-JANE").status_code == 404
    bus = Bus.from_settings(running.settings)
    log = Log(bus, session, "messages")
    processed = VolumeProcessed(session=session, t=1.0, run=1, index=0, censored=False)
    for number, message in enumerate(
        [
            processed.model_copy(update={"latency_ms": processed.latency_ms.model_copy(update={"motion": 20.0})}),
            Warned(session=session, t=1.0, code="quality.fd", text="moved"),
        ]
    ):
        log.append(f"test-{number}", dump_message(message))
    bus.close()
    after = scraped()

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    route = "/v1/sessions/{session}"
    assert more("mindsight_requests_total", method="GET", route=route, status="200") == 1
    assert more("mindsight_requests_total", method="GET", route=route, status="404") == 1
    assert more("mindsight_request_seconds_count", route=route) == 2
    assert more("mindsight_messages_total", type="volume.processed") == 1
    assert more("mindsight_warnings_total", level="warning", code="quality.fd") == 1
    assert more("mindsight_latency_seconds_count", step="motion") == 1
    assert more("mindsight_latency_seconds_sum", step="motion") == pytest.approx(0.02)
    assert value(after, "mindsight_sessions", state="open") >= 1
    assert value(after, "mindsight_bus_up") == 1
    assert value(after, "mindsight_disk_free_bytes") > 0
    assert {name for name, _ in samples(after)} >= {"mindsight_queue_jobs", "mindsight_dead_jobs"}
    for secret in (subject, session, "DOE", str(running.settings.data_dir), *running.keys.values()):
        assert secret not in after


def test_without_a_bus_it_says_that_there_is_none(tmp_path: Path) -> None:
    meter = Meter(Bus.from_settings(Settings(data_dir=tmp_path)), tmp_path)
    meter.request("GET", "/v1/health", 503, 0.01)
    text = meter.scrape().decode()
    assert value(text, "mindsight_bus_up") == 0
    assert value(text, "mindsight_requests_total", method="GET", route="/v1/health", status="503") == 1


def test_the_codes_of_warnings_do_not_grow_without_bound(tmp_path: Path) -> None:
    meter = Meter(Bus.from_settings(Settings(data_dir=tmp_path)), tmp_path)
    for number in range(MAX_CODES + 10):
        meter._count(Warned(session="s", t=0.0, code=f"made.up{number}", text=""))
    text = meter.scrape().decode()
    assert value(text, "mindsight_warnings_total", level="warning", code="other") == 10


def test_a_volume_over_http_is_one_request_of_its_route(running: Running, admin: httpx.Client) -> None:
    before = admin.get("/v1/metrics").text
    assert admin.put("/v1/sessions/nowhere/runs/1/volumes/0", content=payload(0)).status_code == 404
    after = admin.get("/v1/metrics").text
    labels = {"method": "PUT", "route": "/v1/sessions/{session}/runs/{run}/volumes/{index}", "status": "404"}
    assert value(after, "mindsight_requests_total", **labels) - value(before, "mindsight_requests_total", **labels) == 1
