from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from mindsight.bus import Bus, Log
from mindsight.protocol import parse_message
from mindsight.protocol.inputs import AddEvent, OpenSession, TakeVolume, parse_input
from mindsight.protocol.messages import EventAdded, RunEnded, VolumeReceived, Warned
from support.gateway_harness import Running
from support.rest import inputs, messages, problem, put


def test_a_session_from_enrolment_to_its_close(
    running: Running, admin: httpx.Client, bus: Bus, make_payload: Callable[..., bytes]
) -> None:
    enrolled = admin.post("/v1/subjects", json={"bundle": "bundle-1"}).json()
    assert re.fullmatch(r"sub-[a-z0-9]{6}", enrolled["subject"])
    body = {"subject": enrolled["subject"], "session": "visit-1", "options": {"fast_s": 6.5, "blinded": True}}
    opened = admin.post("/v1/sessions", json=body)
    assert opened.status_code == 201
    assert (opened.json()["bundle"], opened.json()["state"]) == ("bundle-1", "open")
    assert admin.get("/v1/sessions/visit-1").json()["sees_truth"] is False, "blinded while it is open"
    run = {"run": 1, "task": "view", "tr_s": 2.0, "n_volumes": 3}
    assert admin.post("/v1/sessions/visit-1/runs", json=run).json()["next_index"] == 0
    event = {"onset_s": 0.5, "duration_s": 3, "trial": 1, "label": "face"}
    assert admin.post("/v1/sessions/visit-1/runs/1/events", json=event).json() == {"added": 1, "duplicates": 0}
    for index in range(2):
        ack = put(admin, "visit-1", index, make_payload(index)).json()
        assert (ack["index"], ack["durable"], ack["duplicate"], ack["next_index"]) == (index, True, False, index + 1)
    missing = admin.post("/v1/sessions/visit-1/runs/1/volumes/2/missing", json={"reason": "dropped"})
    assert missing.json()["next_index"] == 3
    assert admin.post("/v1/sessions/visit-1/runs/1/end").json()["ended"] is True
    assert admin.post("/v1/sessions/visit-1/close").json()["state"] == "closed"
    assert admin.get("/v1/sessions/visit-1").json()["sees_truth"] is True

    order = ["session", "run-1", "event-1-1", "volume-1-0", "volume-1-1", "volume-1-2", "run-1-ended", "session-closed"]
    assert inputs(bus, "visit-1") == messages(bus, "visit-1") == order
    entries = [parse_input(entry.payload) for entry in Log(bus, "visit-1", "input").read()]
    volume = next(entry for entry in entries if isinstance(entry, TakeVolume))
    assert (volume.shape, volume.acquired_s, volume.nbytes) == ((8, 8, 4), 100.0, len(make_payload(0)))
    assert (running.settings.blobs_dir / volume.digest[:2] / volume.digest).read_bytes() == make_payload(0)
    logged = [parse_message(entry.payload) for entry in Log(bus, "visit-1", "messages").read()]
    ended = next(message for message in logged if isinstance(message, RunEnded))
    assert (ended.n_volumes, ended.n_missing) == (2, 1)
    received = next(message for message in logged if isinstance(message, VolumeReceived))
    assert received.latency_ms.receive is not None
    assert any(isinstance(message, EventAdded) and message.label == "face" for message in logged)
    assert "visit-1" in [record["session"] for record in admin.get("/v1/sessions").json()]
    assert [run["run"] for run in admin.get("/v1/sessions/visit-1/runs").json()] == [1]


def test_repeating_any_declaration_changes_nothing(
    admin: httpx.Client, bus: Bus, session: str, make_payload: Callable[..., bytes]
) -> None:
    subject = admin.get(f"/v1/sessions/{session}").json()["subject"]
    base = f"/v1/sessions/{session}"
    event = {"onset_s": 1.0, "duration_s": 2.0, "trial": 1}
    rest = {"onset_s": 5.0, "duration_s": 2.0, "label": "rest"}
    steps: list[Callable[[], httpx.Response]] = [
        lambda: admin.post("/v1/sessions", json={"subject": subject, "session": session}),
        lambda: admin.post(f"{base}/runs", json={"run": 1, "task": "view", "tr_s": 2.0, "n_volumes": 10}),
        lambda: admin.post(f"{base}/runs/1/events", json=[event, rest]),
        lambda: put(admin, session, 0, make_payload(0)),
        lambda: admin.post(f"{base}/runs/1/volumes/1/missing"),
        lambda: admin.post(f"{base}/runs/1/end"),
        lambda: admin.post(f"{base}/close"),
    ]
    for step in steps:
        assert step().is_success
        assert step().is_success
    before = (inputs(bus, session), messages(bus, session))
    for step in steps:  # also after the close: what was accepted stays accepted
        assert step().is_success
    assert (inputs(bus, session), messages(bus, session)) == before
    assert len(before[0]) == len(set(before[0])) == 8
    assert put(admin, session, 0, make_payload(0)).json()["duplicate"] is True


def test_a_retry_completes_what_a_crash_left_half_written(
    admin: httpx.Client, bus: Bus, session: str, make_payload: Callable[..., bytes]
) -> None:
    """The gateway died after the input log and before the message log; the console sends again."""
    assert put(admin, session, 0, make_payload(0)).is_success
    event = AddEvent(t=1.0, run=1, trial=1, onset_s=1.0, duration_s=2.0)
    Log(bus, session, "input").append(event.key, event.model_dump_json().encode(), identity=event.identity)
    assert "event-1-1" not in messages(bus, session)
    again = admin.post(f"/v1/sessions/{session}/runs/1/events", json={"onset_s": 1.0, "duration_s": 2.0, "trial": 1})
    assert again.json() == {"added": 0, "duplicates": 1}
    assert messages(bus, session)[-1] == inputs(bus, session)[-1] == "event-1-1"


def test_what_does_not_exist_or_is_over(admin: httpx.Client, session: str, make_payload: Callable[..., bytes]) -> None:
    base = f"/v1/sessions/{session}"
    event = {"onset_s": 1.0, "duration_s": 2.0, "trial": 1}
    problem(admin.post("/v1/sessions", json={"subject": "sub-unknown"}), 404, "subject.unknown")
    problem(admin.post("/v1/subjects", json={"bundle": "no-such"}), 404, "bundle.unknown")
    problem(admin.get("/v1/sessions/nowhere"), 404, "session.unknown")
    problem(put(admin, "nowhere", 0, make_payload(0)), 404, "session.unknown")
    problem(admin.post("/v1/sessions/nowhere/close"), 404, "session.unknown")
    problem(admin.get("/v1/sessions/nowhere/results"), 404, "session.unknown")
    problem(admin.get("/v1/sessions/nowhere/runs"), 404, "session.unknown")
    problem(admin.get("/v1/sessions/nowhere/events"), 404, "session.unknown")
    problem(put(admin, session, 0, make_payload(0, run=2), run=2), 404, "run.unknown")
    problem(admin.post(f"{base}/runs/2/events", json=event), 404, "run.unknown")
    problem(admin.post(f"{base}/runs/2/end"), 404, "run.unknown")
    assert admin.post(f"{base}/runs/1/end").is_success
    problem(put(admin, session, 0, make_payload(0)), 409, "run.ended")
    problem(admin.post(f"{base}/runs/1/events", json=event), 409, "run.ended")
    assert admin.post(f"{base}/close").is_success
    problem(admin.post(f"{base}/runs", json={"run": 2, "task": "view", "tr_s": 2.0}), 409, "session.closed")
    problem(put(admin, session, 0, make_payload(0)), 409, "session.closed")


def test_look_alike_pairs_are_of_the_subjects_pool(admin: httpx.Client, bus: Bus) -> None:
    def open_with(pairs: list[list[str]], bundle: str | None = "bundle-1") -> httpx.Response:
        subject = admin.post("/v1/subjects", json={"bundle": bundle}).json()["subject"]
        return admin.post("/v1/sessions", json={"subject": subject, "options": {"pairs": pairs}})

    opened = open_with([["cat-1", "cat-2"], ["dog", "cat-1"]])
    assert opened.status_code == 201
    entry = parse_input(Log(bus, opened.json()["session"], "input").read()[0].payload)
    assert isinstance(entry, OpenSession)
    assert entry.options.pairs == (("cat-1", "cat-2"), ("dog", "cat-1"))
    unknown = problem(open_with([["cat-1", "cat-3"]]), 422, "pairs.unknown")
    assert "'cat-3'" in str(unknown["detail"])
    problem(open_with([["cat-1", "cat-2"]], bundle=None), 422, "request.invalid")
    problem(open_with([["dog", "dog"]]), 422, "request.invalid")
    problem(open_with([["cat-1", "cat-2"], ["cat-2", "cat-1"]]), 422, "request.invalid")


def test_another_declaration_of_the_same_run_or_session_is_a_conflict(admin: httpx.Client, session: str) -> None:
    run = {"run": 1, "task": "other", "tr_s": 2.0}
    found = problem(admin.post(f"/v1/sessions/{session}/runs", json=run), 409, "log.diverged")
    assert "with task 'view' and n_volumes 10, which is never overwritten" in str(found["detail"])
    assert "the next number" in str(found["detail"])
    subject = admin.post("/v1/subjects").json()["subject"]
    problem(admin.post("/v1/sessions", json={"subject": subject, "session": session}), 409, "session.exists")
    problem(admin.post("/v1/sessions", json={"subject": subject, "options": {"fats_s": 6.0}}), 422, "request.invalid")


@pytest.mark.parametrize("tr_s", [5e-324, 1e-9, 0.0499, 60.0, 1e308, -2.0, 0.0])
def test_a_repetition_time_that_no_scanner_has_is_refused_and_nothing_logged(
    admin: httpx.Client, bus: Bus, session: str, tr_s: float
) -> None:
    before = inputs(bus, session)
    run = {"run": 7, "task": "view", "tr_s": tr_s}
    assert "tr_s" in str(
        problem(admin.post(f"/v1/sessions/{session}/runs", json=run), 422, "request.invalid")["detail"]
    )
    assert inputs(bus, session) == before


def test_what_the_console_noticed_is_logged_once_and_unchanged(admin: httpx.Client, bus: Bus, session: str) -> None:
    url = f"/v1/sessions/{session}/warnings"
    trouble = {"code": "volume.doubled", "text": "run 1: volume 3 came twice; the first is kept", "run": 1, "index": 3}
    assert [admin.post(url, json=trouble).json() for _ in range(2)] == [{"duplicate": False}, {"duplicate": True}]
    assert admin.post(url, json=trouble | {"index": 4}).json() == {"duplicate": False}
    logged = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    warned = [(m.code, m.text, m.level, m.run, m.index) for m in logged if isinstance(m, Warned)]
    assert warned == [(trouble["code"], trouble["text"], "warning", 1, index) for index in (3, 4)]
    problem(admin.post(url, json=trouble | {"text": "x" * 501}), 422, "request.invalid")
    problem(admin.post("/v1/sessions/unknown/warnings", json=trouble), 404, "session.unknown")
    assert admin.post(f"/v1/sessions/{session}/close").is_success
    problem(admin.post(url, json=trouble | {"index": 5}), 409, "session.closed")


def test_the_list_of_a_subject_and_the_newest_of_all(admin: httpx.Client) -> None:
    subjects = [str(admin.post("/v1/subjects", json={}).json()["subject"]) for _ in range(2)]
    opened = [
        str(admin.post("/v1/sessions", json={"subject": subject, "decoding": False}).json()["session"])
        for subject in (*subjects, subjects[0])
    ]

    def listed(**given: object) -> list[str]:
        return [record["session"] for record in admin.get("/v1/sessions", params=given).json()]

    assert listed(subject=subjects[0]) == [opened[0], opened[2]]
    assert listed(newest=2) == opened[1:]
    assert listed(subject=subjects[0], newest=1) == opened[2:]
    page = admin.get("/v1/sessions", params={"subject": subjects[0], "limit": 1})
    assert [record["session"] for record in page.json()] == opened[:1]
    assert [record["session"] for record in admin.get(page.links["next"]["url"]).json()] == opened[2:]
    problem(admin.get("/v1/sessions?newest=0"), 422, "request.invalid")
