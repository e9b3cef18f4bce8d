"""What every route shares: tags of what a client has, pages of lists, keys that make a repeat safe, names once."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from mindsight.bus import Bus
from mindsight.errors import BusUnavailable, Conflict
from mindsight.journal import replies as module
from mindsight.journal.replies import Replies
from service.idempotency import REPEATED
from support.gateway_harness import Running


def test_a_resource_that_a_client_has_is_not_sent_again(admin: httpx.Client, session: str) -> None:
    path = f"/v1/sessions/{session}/runs"
    first = admin.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    again = admin.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    admin.post(path, json={"run": 2, "task": "view", "tr_s": 2.0})
    changed = admin.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert "etag" not in admin.get("/v1/sessions/nowhere").headers


def test_a_list_is_read_page_by_page(admin: httpx.Client, session: str) -> None:
    for run in range(2, 6):
        admin.post(f"/v1/sessions/{session}/runs", json={"run": run, "task": "view", "tr_s": 2.0})
    whole = admin.get(f"/v1/sessions/{session}/runs")
    assert "link" not in whole.headers
    found, path = [], f"/v1/sessions/{session}/runs?limit=2"
    while path:
        page = admin.get(path)
        assert len(page.json()) <= 2
        found += page.json()
        path = page.links.get("next", {}).get("url", "")
    assert found == whole.json()
    assert [run["run"] for run in found] == [1, 2, 3, 4, 5]
    assert admin.get(f"/v1/sessions/{session}/runs?after=99").json()["code"] == "cursor.unknown"
    assert admin.get(f"/v1/sessions/{session}/runs?limit=0").status_code == 422


@pytest.mark.parametrize("path", ["subjects", "sessions", "jobs", "pools", "keys"])
def test_every_list_has_pages(admin: httpx.Client, session: str, path: str) -> None:
    assert len(admin.get(f"/v1/{path}?limit=1").json()) <= 1


def test_a_repeat_with_the_same_idempotency_key_changes_nothing(running: Running, admin: httpx.Client) -> None:
    headers = {"Idempotency-Key": "enrolment-of-today"}
    first = admin.post("/v1/subjects", headers=headers)
    again = admin.post("/v1/subjects", headers=headers)
    assert (again.status_code, again.json(), again.headers[REPEATED]) == (201, first.json(), "true")
    assert REPEATED not in first.headers
    other = admin.post("/v1/subjects", headers=headers, json={"bundle": "bundle-1"})
    assert (other.status_code, other.json()["code"]) == (409, "request.other")
    with running.client("experimenter") as client:  # another key's names are its own
        assert client.post("/v1/subjects", headers=headers).json()["subject"] != first.json()["subject"]
    assert admin.post("/v1/subjects", headers={"Idempotency-Key": "x" * 201}).json()["code"] == (
        "request.idempotency_key"
    )


def test_what_was_refused_may_be_tried_again_and_secrets_are_not_kept(admin: httpx.Client, session: str) -> None:
    headers = {"Idempotency-Key": "once"}
    path = f"/v1/sessions/{session}/warnings"
    assert admin.post(path, headers=headers, json={}).status_code == 422
    done = admin.post(path, headers=headers, json={"code": "c", "text": "t"})
    assert (done.status_code, done.json()["duplicate"]) == (201, False)
    again = admin.post(path, headers=headers, json={"code": "c", "text": "t"})
    assert (again.status_code, again.json()["duplicate"]) == (201, False), "the first response, not that of a duplicate"
    made = [admin.post("/v1/keys", headers=headers, json={"role": "viewer"}).json() for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]
    for key in made:
        admin.delete(f"/v1/keys/{key['id']}")


def test_a_request_that_is_underway_is_not_made_twice(bus: Bus) -> None:
    now = 1000.0
    replies = Replies(bus, lambda: now)
    replies.forget()
    assert replies.begin("a", "request") is None
    with pytest.raises(Conflict, match="underway"):
        replies.begin("a", "request")
    now += module.UNDERWAY_S + 1  # its gateway died meanwhile
    assert replies.begin("a", "request") is None
    replies.finish("a", "request", 201, "{}")
    reply = replies.begin("a", "request")
    assert reply is not None
    assert (reply.status, reply.body) == (201, "{}")
    now += module.KEPT_S + 1
    assert replies.begin("a", "another") is None
    replies.forget()


def test_the_request_of_a_gateway_that_was_killed_is_made_again_at_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = Replies(bus, lambda: 1000.0)
    replies.forget()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with monkeypatch.context() as there:
            there.setattr(os, "getpid", lambda: other.pid)
            assert replies.begin("a", "request") is None
        with pytest.raises(Conflict, match="underway"):
            replies.begin("a", "request")
        other.kill()
    assert replies.begin("a", "request") is None
    replies.forget()


def test_what_could_not_be_written_while_the_bus_was_away_holds_once_it_is_back(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a console would hear for a minute that its request is underway, and give up."""
    replies = Replies(bus, lambda: 1000.0)
    replies.forget()
    for name in ("refused", "done"):
        assert replies.begin(name, "request") is None
    with monkeypatch.context() as away:
        away.setattr(Bus, "command", _away)
        with pytest.raises(BusUnavailable):
            replies.give_up("refused")
        with pytest.raises(BusUnavailable):
            replies.finish("done", "request", 201, "{}")
    assert replies.begin("refused", "request") is None, "it is made again"
    with pytest.raises(Conflict, match="underway"):
        replies.begin("refused", "request")
    reply = replies.begin("done", "request")
    assert reply is not None, "it was done"
    assert (reply.status, reply.body) == (201, "{}")
    elsewhere = Replies(bus, lambda: 1000.0).begin("done", "request")
    assert elsewhere == reply
    replies.forget()


def _away(*_: object) -> None:
    raise BusUnavailable("the bus is away")


@pytest.mark.parametrize(
    "body", ['{"bundle": "bundle-1", "bundle": null}', '{"consent": {"until": null, "until": null}}', '[{"a":1,"a":1}]']
)
def test_a_name_that_comes_twice_in_an_object_is_refused(admin: httpx.Client, body: str) -> None:
    answer = admin.post("/v1/subjects", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request.duplicate_name")


@pytest.mark.parametrize("body", ["{", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")])
def test_what_is_no_json_is_refused_by_the_route(admin: httpx.Client, body: str) -> None:
    answer = admin.post("/v1/subjects", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_wrong_method_is_told_all_that_the_address_has(admin: httpx.Client, session: str) -> None:
    assert admin.delete("/v1/subjects").headers["allow"] == "GET, POST"
    assert admin.put(f"/v1/sessions/{session}/runs").headers["allow"] == "GET, POST"
    assert admin.options("/v1/sessions/check").headers["allow"] == "POST"


@pytest.mark.parametrize("tr_s", [True, "2.0", [2.0]])
def test_what_is_no_number_is_not_taken_for_one(admin: httpx.Client, session: str, tr_s: object) -> None:
    run = {"run": 9, "task": "view", "tr_s": tr_s}
    assert admin.post(f"/v1/sessions/{session}/runs", json=run).status_code == 422
    assert admin.post(f"/v1/sessions/{session}/runs", json=run | {"tr_s": 2}).status_code == 201
