from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from mindsight.bus import Bus, Log
from mindsight.protocol import Captioned, Reconstruction, dump_message, parse_message
from mindsight.protocol.inputs import AddEvent, OpenSession, TakeVolume, parse_input
from mindsight.protocol.messages import EventAdded, RunEnded, VolumeReceived, Warned
from support.gateway_harness import Running


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found: dict[str, object] = answer.json()
    assert (found["code"], found["status"]) == (code, status), found
    return found


def put(client: httpx.Client, session: str, index: int, payload: bytes, run: int = 1, **headers: str) -> httpx.Response:
    return client.put(f"/v1/sessions/{session}/runs/{run}/volumes/{index}", content=payload, headers=headers)


def inputs(bus: Bus, session: str) -> list[str]:
    return [entry.key for entry in Log(bus, session, "input").read()]


def messages(bus: Bus, session: str) -> list[str]:
    return [entry.key for entry in Log(bus, session, "messages").read()]


def test_a_session_from_enrolment_to_its_close(
    running: Running, admin: httpx.Client, bus: Bus, make_payload: Callable[..., bytes]
) -> None:
    enrolled = admin.post("/v1/subjects", json={"bundle": "bundle-1"}).json()
    assert re.fullmatch(r"sub-[a-z0-9]{6}", enrolled["subject"])
    body = {"subject": enrolled["subject"], "session": "visit-1", "options": {"fast_s": 6.5, "blinded": True}}
    opened = admin.post("/v1/sessions", json=body)
    assert opened.status_code == 201
    assert (opened.json()["bundle"], opened.json()["state"]) == ("bundle-1", "open")
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

    order = ["session", "run-1", "event-1-1", "volume-1-0", "volume-1-1", "volume-1-2", "run-1-ended", "session-closed"]
    assert inputs(bus, "visit-1") == messages(bus, "visit-1") == order
    entries = [parse_input(entry.payload) for entry in Log(bus, "visit-1", "input").read()]
    volume = next(entry for entry in entries if isinstance(entry, TakeVolume))
    assert (volume.shape, volume.acquired_s, volume.nbytes) == ((8, 8, 4), 100.0, len(make_payload(0)))
    assert (running.settings.blobs_dir / volume.digest[:2] / volume.digest).read_bytes() == make_payload(0)
    said = [parse_message(entry.payload) for entry in Log(bus, "visit-1", "messages").read()]
    ended = next(message for message in said if isinstance(message, RunEnded))
    assert (ended.n_volumes, ended.n_missing) == (2, 1)
    received = next(message for message in said if isinstance(message, VolumeReceived))
    assert received.latency_ms.receive is not None
    assert any(isinstance(message, EventAdded) and message.label == "face" for message in said)
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


def test_volumes_come_in_order_or_say_what_is_expected(
    admin: httpx.Client, bus: Bus, session: str, make_payload: Callable[..., bytes]
) -> None:
    found = problem(put(admin, session, 1, make_payload(1)), 409, "volume.out_of_order")
    assert found["details"] == {"expected_index": 0}
    assert put(admin, session, 0, make_payload(0)).is_success
    other = problem(put(admin, session, 0, make_payload(0, seed=9)), 409, "log.diverged")
    assert "never overwritten" in str(other["detail"])
    assert admin.post(f"/v1/sessions/{session}/runs/1/volumes/1/missing").is_success
    problem(put(admin, session, 1, make_payload(1)), 409, "volume.settled")
    problem(admin.post(f"/v1/sessions/{session}/runs/1/volumes/0/missing"), 409, "volume.settled")
    assert put(admin, session, 2, make_payload(2)).json()["next_index"] == 3
    assert inputs(bus, session)[2:] == ["volume-1-0", "volume-1-1", "volume-1-2"]


def test_bad_volumes_get_one_clear_answer_and_the_next_good_one_is_taken(
    running: Running, admin: httpx.Client, session: str, make_payload: Callable[..., bytes]
) -> None:
    good = make_payload(0)
    problem(put(admin, session, 0, b""), 422, "volume.payload_magic")
    problem(put(admin, session, 0, b"DICM" * 1000), 422, "volume.payload_magic")
    problem(put(admin, session, 0, good[:-1]), 422, "volume.payload_truncated")
    problem(put(admin, session, 0, good + b"x"), 422, "volume.payload_trailing")
    problem(put(admin, session, 0, good[:40]), 422, "volume.payload_truncated")
    problem(put(admin, session, 0, make_payload(5)), 422, "volume.misplaced")
    problem(put(admin, session, 0, good, **{"X-Content-SHA256": "0" * 64}), 422, "volume.digest_mismatch")
    limit = running.settings.max_volume_bytes
    found = problem(put(admin, session, 0, bytes(limit + 1)), 413, "request.too_large")
    assert found["details"] == {"limit": limit}
    assert put(admin, session, 0, good).json()["duplicate"] is False
    shape = problem(put(admin, session, 1, make_payload(1, shape=(8, 8, 5))), 422, "volume.shape_mismatch")
    assert shape["details"] == {"expected": "8x8x4", "got": "8x8x5"}
    assert put(admin, session, 1, make_payload(1)).json()["next_index"] == 2
    assert list((running.settings.blobs_dir / "incoming").iterdir()) == []


def test_a_chunked_body_over_the_limit_is_cut_off(running: Running, admin: httpx.Client, session: str) -> None:
    sent = 0

    def body() -> object:
        nonlocal sent
        while sent < 16 * running.settings.max_volume_bytes:
            sent += 65536
            yield bytes(65536)

    url = f"/v1/sessions/{session}/runs/1/volumes/0"
    try:
        answer = admin.put(url, content=body())  # type: ignore[arg-type]
    except httpx.TransportError:
        pass  # the gateway hung up before all was sent
    else:
        assert answer.status_code in (413, 422)
    assert list((running.settings.blobs_dir / "incoming").iterdir()) == []


def test_the_first_received_volume_gives_the_shape_also_after_missing_ones(
    admin: httpx.Client, session: str, make_payload: Callable[..., bytes]
) -> None:
    for index in range(2):
        assert admin.post(f"/v1/sessions/{session}/runs/1/volumes/{index}/missing").is_success
    assert put(admin, session, 2, make_payload(2)).is_success
    problem(put(admin, session, 3, make_payload(3, shape=(4, 4, 4))), 422, "volume.shape_mismatch")


def test_results_are_what_was_decoded_drawn_and_said(admin: httpx.Client, session: str, bus: Bus) -> None:
    where = {"session": session, "t": 1.0, "run": 1}
    drawn = Reconstruction(
        **where, trial=1, stage="final", image="0" * 64, confidence=0.5, seed=7, evaluations=4, generator="1" * 64
    )
    log = Log(bus, session, "messages")
    log.append("drawn", dump_message(drawn))
    for trial in (1, 2):
        said = Captioned(**where, trial=trial, stage="final", text=f"a dog, {trial}", model="2" * 64)
        log.append(f"said-{trial}", dump_message(said))
    found = admin.get(f"/v1/sessions/{session}/results", params={"trial": 1}).json()
    assert found["results"] == []
    assert [one["seed"] for one in found["reconstructions"]] == [7]
    assert [one["text"] for one in found["captions"]] == ["a dog, 1"]


def test_what_does_not_exist_or_is_over(admin: httpx.Client, session: str, make_payload: Callable[..., bytes]) -> None:
    base = f"/v1/sessions/{session}"
    event = {"onset_s": 1.0, "duration_s": 2.0, "trial": 1}
    problem(admin.post("/v1/sessions", json={"subject": "sub-nobody"}), 404, "subject.unknown")
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


@pytest.mark.parametrize("onset_s", [-24.5, -1.0, 20.0, 1e9])
def test_an_event_before_or_after_its_run_is_taken_as_planned(
    admin: httpx.Client, session: str, onset_s: float
) -> None:
    event = {"onset_s": onset_s, "duration_s": 1.0, "trial": 1}
    answer = admin.post(f"/v1/sessions/{session}/runs/1/events", json=event)
    assert answer.json() == {"added": 1, "duplicates": 0}


def test_an_event_that_no_volume_can_show_is_refused_and_none_with_it_is_added(
    admin: httpx.Client, bus: Bus, session: str
) -> None:
    events = [{"onset_s": onset_s, "duration_s": 1.0} for onset_s in (2.0, -25.0)]
    problem(admin.post(f"/v1/sessions/{session}/runs/1/events", json=events), 422, "event.outside_run")
    assert not any(key.startswith("event") for key in inputs(bus, session))


def test_a_bids_table_becomes_trials(admin: httpx.Client, bus: Bus, session: str) -> None:
    url = f"/v1/sessions/{session}/runs/1/events"
    table = "onset\tduration\ttrial_type\tstim_file\n0.5\t2\tface\tstimuli/img1.png\n4\t2\thouse\tn/a\n"
    tsv = {"Content-Type": "text/tab-separated-values; charset=utf-8"}
    assert admin.post(url, content=table, headers=tsv).json() == {"added": 2, "duplicates": 0}
    assert admin.post(url, content=table, headers=tsv).json() == {"added": 0, "duplicates": 2}
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    events = [entry for entry in entries if isinstance(entry, AddEvent)]
    assert [(e.trial, e.onset_s, e.label, e.candidate) for e in events] == [
        (1, 0.5, "face", "img1"),
        (2, 4.0, "house", None),
    ]
    changed = problem(admin.post(url, content=table.replace("face", "shoe"), headers=tsv), 409, "log.diverged")
    assert changed["details"] == {"key": "event-1-1"}
    assert "trial 1 of run 1" in changed["detail"]
    for kind in ("text/csv", "Text/Tab-Separated-Values", "text/plain; charset=utf-8"):
        answer = admin.post(url, content=table, headers={"Content-Type": kind})
        assert answer.json() == {"added": 0, "duplicates": 2}
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl --data-binary sends by itself
    unknown = problem(admin.post(url, content=table, headers=form), 422, "request.invalid")
    assert "text/tab-separated-values" in unknown["detail"]
    problem(admin.post(url, content="duration\n1\n", headers=tsv), 422, "events.columns")
    problem(admin.post(url, content=b"onset\tduration\n\xff\t1\n", headers=tsv), 422, "events.encoding")


@pytest.mark.parametrize(
    "body",
    [
        '{"onset_s": 1}',
        "[]x",
        "",
        "null",
        '{"onset_s": NaN, "duration_s": 1}',
        '{"onset_s": 1, "duration_s": 1, "x": 1}',
    ],
)
def test_a_malformed_event_is_refused(admin: httpx.Client, session: str, body: str) -> None:
    problem(admin.post(f"/v1/sessions/{session}/runs/1/events", content=body), 422, "request.invalid")


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
    problem(admin.post(f"/v1/sessions/{session}/runs", json=run), 409, "log.diverged")
    subject = admin.post("/v1/subjects").json()["subject"]
    problem(admin.post("/v1/sessions", json={"subject": subject, "session": session}), 409, "session.exists")
    problem(admin.post("/v1/sessions", json={"subject": subject, "options": {"fats_s": 6.0}}), 422, "request.invalid")


def test_what_the_console_noticed_is_told_once_and_in_its_words(admin: httpx.Client, bus: Bus, session: str) -> None:
    url = f"/v1/sessions/{session}/warnings"
    trouble = {"code": "volume.doubled", "text": "run 1: volume 3 came twice; the first is kept", "run": 1, "index": 3}
    assert [admin.post(url, json=trouble).json() for _ in range(2)] == [{"duplicate": False}, {"duplicate": True}]
    assert admin.post(url, json=trouble | {"index": 4}).json() == {"duplicate": False}
    said = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    told = [(m.code, m.text, m.level, m.run, m.index) for m in said if isinstance(m, Warned)]
    assert told == [(trouble["code"], trouble["text"], "warning", 1, index) for index in (3, 4)]
    problem(admin.post(url, json=trouble | {"text": "x" * 501}), 422, "request.invalid")
    problem(admin.post("/v1/sessions/nobody/warnings", json=trouble), 404, "session.unknown")
    assert admin.post(f"/v1/sessions/{session}/close").is_success
    problem(admin.post(url, json=trouble | {"index": 5}), 409, "session.closed")
