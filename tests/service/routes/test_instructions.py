"""What is asked of a session while it runs: durable, once, and a blinding that holds for streams that are open."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from mindsight.bus import Bus, Log
from mindsight.journal.declare import Recorder
from mindsight.protocol.inputs import Instruct, parse_input
from support.gateway_harness import Running
from support.rest import inputs, problem


def lines(answer: httpx.Response) -> Iterator[dict[str, object]]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def show(admin: httpx.Client, session: str, trial: int, label: str) -> None:
    event = {"onset_s": 4.0 * trial, "duration_s": 1.0, "trial": trial, "label": label}
    assert admin.post(f"/v1/sessions/{session}/runs/1/events", json=event).status_code == 201


def test_an_instruction_is_in_the_log_once(admin: httpx.Client, bus: Bus, session: str) -> None:
    path = f"/v1/sessions/{session}/instructions"
    body = {"instruction": "mark", "text": "coughed", "change": "m1"}
    first, again = admin.post(path, json=body), admin.post(path, json=body)
    assert (first.status_code, first.json()["duplicate"], again.json()["duplicate"]) == (201, False, True)
    problem(admin.post(path, json=body | {"text": "sneezed"}), 409, "log.diverged")
    problem(admin.post(path, json={"instruction": "dance"}), 422, "request.invalid")
    entry = parse_input(Log(bus, session, "input").read(first.json()["number"] - 1, 1)[0].payload)
    assert isinstance(entry, Instruct)
    assert (entry.instruction, entry.text) == ("mark", "coughed")
    admin.post(f"/v1/sessions/{session}/close")
    problem(admin.post(path, json={"instruction": "pause"}), 409, "session.closed")
    assert [key for key in inputs(bus, session) if key.startswith("instruction")] == ["instruction-m1"]


def test_blinding_holds_for_streams_that_are_open(running: Running, admin: httpx.Client, session: str) -> None:
    path = f"/v1/sessions/{session}/instructions"
    with running.client("experimenter") as client, client.stream("GET", f"/v1/sessions/{session}/events") as answer:
        messages = (message for message in lines(answer) if message.get("type") == "event.added")
        show(admin, session, 1, "face")
        assert next(messages)["label"] == "face"
        assert admin.post(path, json={"instruction": "blind", "change": "b1"}).status_code == 201
        assert admin.get(f"/v1/sessions/{session}").json()["blinded"] is True
        show(admin, session, 2, "house")
        assert "label" not in next(messages)
        with running.client("admin") as other, other.stream("GET", f"/v1/sessions/{session}/events") as late:
            past = (message for message in lines(late) if message.get("type") == "event.added")
            assert "label" not in next(past), "neither is what was shown before"
        assert admin.post(path, json={"instruction": "unblind", "change": "u1"}).status_code == 201
        assert admin.post(path, json={"instruction": "blind", "change": "b1"}).json()["duplicate"]
        assert admin.get(f"/v1/sessions/{session}").json()["blinded"] is False, "a repeat does not blind again"
        show(admin, session, 3, "cat")
        assert next(messages)["label"] == "cat"


@pytest.fixture
def console(running: Running, session: str) -> Iterator[httpx.Client]:
    with running.client("experimenter") as client:
        made = client.post(f"/v1/sessions/{session}/keys", json={"hours": 1}).json()
    assert (made["role"], made["session"]) == ("console", session)
    assert 3500 < made["expires_t"] - made["created_t"] <= 3600
    with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {made['key']}"}, timeout=10) as client:
        yield client


def test_a_console_key_opens_its_session_and_no_other(admin: httpx.Client, console: httpx.Client, session: str) -> None:
    assert console.get(f"/v1/sessions/{session}/runs/1").status_code == 200
    assert console.get("/v1/keys/own").json()["session"] == session
    image = b"\x89PNG\r\n\x1a\n" + b"0" * 32
    assert console.post("/v1/images", content=image).status_code == 201
    other = admin.post("/v1/sessions", json={"subject": admin.post("/v1/subjects").json()["subject"]}).json()["session"]
    for method, path in (("GET", f"/v1/sessions/{other}/runs"), ("POST", "/v1/subjects"), ("POST", "/v1/sessions")):
        problem(console.request(method, path), 403, "auth.session")
    problem(console.post(f"/v1/sessions/{session}/keys"), 403, "auth.scope")


def test_an_erasure_takes_the_keys_of_the_subjects_sessions(
    running: Running, admin: httpx.Client, bus: Bus, console: httpx.Client, session: str
) -> None:
    subject = admin.get(f"/v1/sessions/{session}").json()["subject"]
    admin.post(f"/v1/sessions/{session}/close")
    Recorder(bus, session, time.time).archive(f"archive/{session}", 1)
    assert admin.delete(f"/v1/subjects/{subject}").status_code == 202
    assert console.get(f"/v1/sessions/{session}").status_code == 401
    assert session not in (running.settings.data_dir / "keys.json").read_text()
