"""Limits of quality and times of answers over REST: what is taken, what is refused and how, and what the log says."""

from __future__ import annotations

from dataclasses import fields

import httpx
import pytest

from mindsight.bus import Bus, Log
from mindsight.client import Console
from mindsight.ingest import IngestOptions
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.protocol import LimitsChanged, parse_message
from mindsight.protocol.inputs import Limits, OpenSession, SessionOptions, SetLimits, parse_input
from support.gateway_harness import Running
from workers.ingest.options import ingest_options


def opened(admin: httpx.Client, **options: object) -> httpx.Response:
    subject = admin.post("/v1/subjects").json()["subject"]
    return admin.post("/v1/sessions", json={"subject": subject, "options": options})


def test_every_limit_can_be_named_and_has_the_same_default() -> None:
    assert set(Limits.model_fields) == {field.name for field in fields(QualityLimits)}
    assert QualityLimits(**Limits().on({})) == QualityLimits()
    for field in fields(QualityLimits):
        described = Limits.model_fields[field.name].description or ""
        assert f"{getattr(QualityLimits(), field.name):g})" in described, field.name


def test_a_session_s_limits_are_in_its_record_and_its_log(admin: httpx.Client, bus: Bus) -> None:
    limits = {"drift_percent": 1.5, "spikes": "off", "window_volumes": 20}
    answer = opened(admin, fd_mm=0.9, limits=limits, fast_volumes=4, revised_s=20, normalise="run", std_floor=0.2)
    assert answer.status_code == 201, answer.text
    session = answer.json()["session"]
    assert {k: v for k, v in answer.json()["options"]["limits"].items() if v is not None} == limits
    entry = parse_input(Log(bus, session, "input").read()[0].payload)
    assert isinstance(entry, OpenSession)
    options = ingest_options(entry.options, None)
    assert options.limits == QualityLimits(fd_mm=0.9, drift_percent=1.5, spikes=None, window_volumes=20)
    assert (options.fd_threshold_mm, options.normalise, options.std_floor) == (0.9, "run", 0.2)
    assert options.waits_s(1.5) == {"fast": 6.0, "revised": 20.0}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limits": {"drift": 3}}, "body.options.limits.drift: Extra inputs are not permitted"),
        ({"limits": {"drift_percent": -1}}, "body.options.limits.drift_percent: expected a number from 0 on, or 'off'"),
        ({"limits": {"fd_mm": "none"}}, "body.options.limits.fd_mm: expected a number from 0 on, or 'off'"),
        ({"limits": {"window_volumes": 0}}, "window_volumes: Input should be greater than or equal to 1"),
        ({"fd_mm": 0}, "body.options.fd_mm: Input should be greater than 0"),
        ({"normalise": "mean"}, "body.options.normalise: Input should be 'bundle', 'running', 'running_including' or"),
        ({"fast_s": 20, "revised_s": 10}, "body.options: expected fast before revised before final"),
        ({"fast_s": 5, "fast_volumes": 3}, "body.options: expected fast_s or fast_volumes, got both"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(admin: httpx.Client, options: dict[str, object], expected: str) -> None:
    answer = opened(admin, **options)
    assert answer.status_code == 422
    assert expected in answer.json()["detail"]


def test_the_interface_s_description_shows_every_limit(admin: httpx.Client) -> None:
    document = admin.get("/v1/openapi.json").json()
    schema = document["components"]["schemas"]["Limits"]["properties"]
    assert set(schema) == set(Limits.model_fields)
    assert all(limit["description"] for limit in schema.values())
    body = document["paths"]["/v1/sessions/{session}/limits"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("/ChangeLimits")


def test_limits_change_during_a_session_and_a_repeat_changes_nothing(
    running: Running, admin: httpx.Client, session: str, bus: Bus
) -> None:
    url = f"/v1/sessions/{session}/limits"
    body = {"change": "louder", "fd_mm": 0.8, "limits": {"residual": "off", "fd_mm": 1.0}}
    first, second = admin.post(url, json=body), admin.post(url, json=body)
    assert (first.status_code, first.json()) == (201, {"change": "louder", "duplicate": False})
    assert second.json() == {"change": "louder", "duplicate": True}
    other = admin.post(url, json={"change": "louder", "fd_mm": 0.7})
    assert (other.status_code, other.json()["code"]) == (409, "log.diverged")
    with Console(running.url, running.keys["admin"], session=session) as console:
        console.set_limits(drift_percent=5, usable_min=25)
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    changes = [entry for entry in entries if isinstance(entry, SetLimits)]
    assert [entry.change == "louder" for entry in changes] == [True, False]
    limits = QualityLimits().override(changes[0].limits.on({}), fd_mm=changes[0].fd_mm)
    assert limits == QualityLimits(fd_mm=1.0, residual=None)
    assert limits.override(changes[1].limits.on({}), fd_mm=changes[1].fd_mm) == QualityLimits(
        fd_mm=1.0, residual=None, drift_percent=5.0
    )
    expected = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    changed = [message for message in expected if isinstance(message, LimitsChanged)]
    assert [(m.fd_mm, m.limits, m.usable_min) for m in changed] == [
        (0.8, {"fd_mm": 1.0, "residual": "off"}, None),
        (None, {"drift_percent": 5.0}, 25.0),
    ]
    assert admin.post(url, json={"usable_min": 0}).status_code == 422
    assert admin.post(url, json={"limits": {"residuals": 1}}).status_code == 422
    assert admin.post("/v1/sessions/nowhere/limits", json={}).status_code == 404
    admin.post(f"/v1/sessions/{session}/close")
    assert admin.post(url, json={"fd_mm": 0.6}).json()["code"] == "session.closed"


def test_only_who_controls_a_session_may_change_its_limits(running: Running, session: str) -> None:
    with running.client("viewer") as viewer:
        assert viewer.post(f"/v1/sessions/{session}/limits", json={"fd_mm": 0.6}).status_code == 403


def test_what_is_not_asked_for_is_the_bundle_s() -> None:
    calibrated = IngestOptions(
        fast_volumes=4,
        revised_s=None,
        final_s=30.0,
        fd_threshold_mm=0.7,
        limits=QualityLimits(fd_mm=None, residual=0.4),
    )
    assert ingest_options(SessionOptions(), calibrated) == calibrated
    asked = ingest_options(SessionOptions(fast_s=5.0), calibrated)
    assert (asked.fast_s, asked.fast_volumes, asked.final_s, asked.limits.residual) == (5.0, None, 30.0, 0.4)
    # an answer that is asked for after the bundle's next one takes its place
    assert ingest_options(SessionOptions(fast_s=40.0), calibrated).waits_s(2.0) == {"fast": 40.0}
