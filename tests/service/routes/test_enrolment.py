"""Subjects from enrolment to a version of their bundle, and what is refused before any time is spent."""

from __future__ import annotations

import io
import secrets
import tarfile
import time
from typing import Any

import httpx
import pytest

from mindsight.bus import Bus
from mindsight.journal.jobs import Jobs
from mindsight.protocol.jobs import JobProgress, dump_job_message
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Version, VersionStore
from support.archive_example import picture
from support.gateway_harness import Running
from support.small_bundle import make_bundle

USES = {"decoding": "laboratory", "calibration": "laboratory", "export": "institution"}
CONSENT = {"uses": USES, "form": "v2-2025"}


@pytest.fixture
def subject(admin: httpx.Client) -> str:
    answer = admin.post("/v1/subjects", json={"consent": CONSENT})
    assert answer.status_code == 201, answer.text
    pseudonym: str = answer.json()["subject"]
    return pseudonym


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def scanned(admin: httpx.Client, bus: Bus, subject: str, runs: list[list[str | None]], **named: str) -> str:
    """A session with these labels, as if it were archived."""
    from mindsight.journal.declare import Recorder

    session: str = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    for number, labels in enumerate(runs, 1):
        admin.post(f"/v1/sessions/{session}/runs", json={"run": number, "task": "view", "tr_s": 2.0})
        events = [
            {"onset_s": 10.0 * k, "duration_s": 1.0, "trial": k, named.get("column", "label"): label}
            for k, label in enumerate(labels, 1)
        ]
        assert admin.post(f"/v1/sessions/{session}/runs/{number}/events", json=events).status_code == 201
    admin.post(f"/v1/sessions/{session}/close")
    Recorder(bus, session, time.time).archive(f"archive/{session}", 1)
    return session


def test_consent_is_stated_replaced_and_withdrawn(admin: httpx.Client) -> None:
    subject = admin.post("/v1/subjects").json()["subject"]
    assert admin.get(f"/v1/subjects/{subject}").json()["consent"] is None
    assert admin.post("/v1/sessions", json={"subject": subject}).status_code == 201
    calibrations = f"/v1/subjects/{subject}/calibrations"
    assert refused(admin.post(calibrations, json={})) == (409, "consent.missing")
    only = {"uses": {"decoding": "laboratory"}, "form": "v1"}
    assert admin.put(f"/v1/subjects/{subject}/consent", json=only).json()["consent"]["uses"] == only["uses"]
    assert refused(admin.post(calibrations, json={})) == (409, "consent.refused")
    ended = CONSENT | {"until_t": time.time() - 1.0}
    admin.put(f"/v1/subjects/{subject}/consent", json=ended)
    assert refused(admin.post("/v1/sessions", json={"subject": subject})) == (409, "consent.ended")
    admin.put(f"/v1/subjects/{subject}/consent", json={"uses": {}, "form": "withdrawal"})
    assert refused(admin.post("/v1/sessions", json={"subject": subject})) == (409, "consent.refused")
    for wrong in ({"uses": {"selling": "public"}, "form": "v1"}, {"uses": {}, "form": "Jane Doe"}, {"uses": {}}):
        assert refused(admin.put(f"/v1/subjects/{subject}/consent", json=wrong)) == (422, "request.invalid")


SIDES = ["left", "right"] * 3


@pytest.mark.parametrize(
    ("runs", "status", "code"),
    [
        ([SIDES], 422, "calibration.runs"),
        ([["left"], ["right"]], 422, "calibration.few"),
        ([["left"] * 6, ["left"] * 6], 422, "calibration.labels"),
        ([list("abcdef"), list("ghijkl")], 422, "calibration.repeats"),
    ],
)
def test_trials_that_cannot_be_calibrated_from_are_refused(
    admin: httpx.Client, bus: Bus, subject: str, runs: list[list[str | None]], status: int, code: str
) -> None:
    session = scanned(admin, bus, subject, runs)
    answer = admin.post(f"/v1/subjects/{subject}/calibrations", json={"sessions": [session]})
    assert refused(answer) == (status, code)
    assert admin.get(f"/v1/subjects/{subject}/calibrations").json() == []


def test_sessions_that_cannot_be_calibrated_from_are_refused(admin: httpx.Client, bus: Bus, subject: str) -> None:
    calibrations = f"/v1/subjects/{subject}/calibrations"
    assert refused(admin.post(calibrations, json={})) == (409, "calibration.sessions")
    session = scanned(admin, bus, subject, [SIDES, SIDES])
    other = admin.post("/v1/subjects", json={"consent": CONSENT}).json()["subject"]
    asked: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
        (other, {"sessions": [session]}, (404, "session.unknown")),
        (other, {"live": session}, (404, "session.unknown")),
        (subject, {"live": session}, (409, "session.closed")),
        (subject, {"sessions": [session], "live": session}, (422, "request.invalid")),
        (subject, {"sessions": [session, session]}, (422, "request.invalid")),
        (subject, {"sessions": ["ses-none"]}, (404, "session.unknown")),
        (subject, {"sessions": [session], "pool": "none"}, (404, "pool.unknown")),
        (subject, {"sessions": [session], "fine_tuning": True}, (409, "calibration.backbone")),
        ("sub-aaaaaa", {"sessions": [session]}, (404, "subject.unknown")),
    ]
    for who, body, expected in asked:
        assert refused(admin.post(f"/v1/subjects/{who}/calibrations", json=body)) == expected, body
    plain = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    assert refused(admin.post(calibrations, json={"live": plain})) == (409, "calibration.session")
    assert refused(admin.post(calibrations, json={"sessions": [plain]})) == (409, "session.not_archived")


def test_a_calibration_is_one_job_until_it_is_finished(admin: httpx.Client, bus: Bus, subject: str) -> None:
    opened = admin.post("/v1/sessions", json={"subject": subject, "calibration": True}).json()
    assert (opened["bundle"], opened["options"]["normalise"]) == (None, "run")
    calibrations, name = f"/v1/subjects/{subject}/calibrations", f"job-{secrets.token_hex(4)}"
    body = {"live": opened["session"], "job": name}
    made = admin.post(calibrations, json=body)
    assert (made.status_code, made.json()["state"]) == (201, "queued")
    assert admin.post(calibrations, json=body).json() == made.json(), "a repeat changes nothing"
    second = admin.post(calibrations, json={"live": opened["session"]})
    assert refused(second) == (409, "job.busy")
    assert second.json()["details"]["job"] == name
    assert refused(admin.delete(f"/v1/subjects/{subject}")) == (409, "subject.busy")
    progress = JobProgress(job=name, t=1.0, step="trials", done=3, n=9, left_s=12.0)
    Jobs(bus, time.time).log(name).append("progress-1", dump_job_message(progress))
    shown = admin.get(f"/v1/jobs/{name}").json()
    assert (shown["progress"]["left_s"], shown["n_messages"], shown["task"]["live"]) == (12.0, 1, opened["session"])
    assert [job["job"] for job in admin.get(calibrations).json()] == [name]
    assert admin.delete(f"/v1/jobs/{name}").json()["state"] == "cancelled"
    messages = admin.get(f"/v1/jobs/{name}/messages", params={"after": 1}).json()["messages"]
    assert [(m["id"], m["outcome"]) for m in messages] == [(2, "cancelled")]
    assert admin.post(f"/v1/jobs/{name}/resume").json()["attempt"] == 2
    assert admin.delete(f"/v1/jobs/{name}").json()["state"] == "cancelled"
    assert refused(admin.get("/v1/jobs/none")) == (404, "job.unknown")


def test_versions_are_listed_activated_rolled_back_and_exported(
    admin: httpx.Client, running: Running, subject: str
) -> None:
    settings = running.settings
    store = VersionStore(settings.versions_dir, settings.bundles_dir, Registry(settings.subjects_dir))
    for _ in range(2):
        number, folder = store.next_folder(subject)
        digest = make_bundle().save(folder).digest
        version = Version(number=number, bundle=folder.name, digest=digest, created_t=1.0)
        store.add(version, subject, activate=number == 1)
    bundles = f"/v1/subjects/{subject}/bundles"
    listed = admin.get(bundles).json()
    assert ([v["number"] for v in listed["versions"]], listed["activated"]) == ([1, 2], [1])
    assert admin.post(f"{bundles}/2/activate").json()["bundle"] == f"{subject}.v2"
    opened = admin.post("/v1/sessions", json={"subject": subject}).json()
    assert opened["bundle"] == f"{subject}.v2", "a session names the version that it uses"
    assert admin.post(f"{bundles}/rollback").json()["bundle"] == f"{subject}.v1"
    assert admin.get(f"/v1/sessions/{opened['session']}").json()["bundle"] == f"{subject}.v2"
    assert refused(admin.post(f"{bundles}/rollback")) == (409, "version.first")
    assert refused(admin.post(f"{bundles}/3/activate")) == (404, "version.unknown")
    exported = admin.get(f"{bundles}/1/export")
    with tarfile.open(fileobj=io.BytesIO(exported.content)) as file:
        assert f"{subject}.v1/bundle.json" in file.getnames()
    assert exported.headers["x-bundle-digest"] == listed["versions"][0]["digest"]
    admin.put(f"/v1/subjects/{subject}/consent", json={"uses": {"decoding": "laboratory"}, "form": "v1"})
    assert refused(admin.get(f"{bundles}/1/export")) == (409, "consent.refused")


def test_a_pool_is_asked_for_with_images_that_are_there(admin: httpx.Client, running: Running) -> None:
    image = admin.post("/v1/images", content=picture(5), headers={"Content-Type": "image/png"}).json()["digest"]
    name = f"pool-{secrets.token_hex(4)}"
    body = {"pool": name, "images": [{"id": "a", "image": image}], "job": f"job-{name}"}
    made = admin.post("/v1/pools", json=body)
    assert (made.status_code, made.json()["task"]["pool"]) == (201, name)
    assert admin.post("/v1/pools", json=body).json() == made.json()
    assert refused(admin.post("/v1/pools", json=body | {"job": None})) == (409, "job.busy")
    unknown = {"pool": "other", "images": [{"id": "a", "image": "0" * 64}]}
    assert refused(admin.post("/v1/pools", json=unknown)) == (404, "image.unknown")
    assert refused(admin.post("/v1/pools", json={"pool": "other", "folder": "none"})) == (404, "pool.images")
    for wrong in ({"pool": "../up", "folder": "x"}, {"pool": "x"}, {"pool": "x", "folder": "../.."}):
        assert refused(admin.post("/v1/pools", json=wrong))[0] == 422
    folder = running.settings.pools_dir / "here"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pool.json").write_text('{"ids": ["a", "b"]}')
    assert {"pool": "here", "size": 2} in admin.get("/v1/pools").json()
    assert refused(admin.post("/v1/pools", json={"pool": "here", "images": body["images"]})) == (409, "pool.exists")
