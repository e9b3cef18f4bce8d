"""The dry run, the simulated scanner's job, how far a session is, and the service's own state."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable

import httpx

from mindsight.bus import Bus
from mindsight.journal.presence import Presence, Worker
from support.gateway_harness import Running
from support.rest import problem, put


def test_a_dry_run_finds_what_would_keep_a_session_from_working(admin: httpx.Client, bus: Bus) -> None:
    subject = admin.post("/v1/subjects", json={"bundle": "bundle-1"}).json()["subject"]
    body = {"subject": subject, "client_t": time.time() - 60.0, "protocol": {"tr_s": 1.5}}
    outcome = admin.post("/v1/sessions/check", json=body).json()
    states = {check["name"]: check["state"] for check in outcome["checks"]}
    assert outcome["ready"] is False
    assert set(states) == {"subject", "scanner", "bus", "workers", "card", "disk", "clock", "bundle"}
    assert (states["workers"], states["clock"], states["bundle"]) == ("failed", "failed", "failed")
    now = time.time()
    for kind in ("ingest", "jobs"):
        Presence(bus).beat(Worker(name=kind, kind=kind, version="1", about="CPU", started_t=now, seen_t=now))
    outcome = admin.post("/v1/sessions/check", json=body | {"client_t": now, "decoding": False}).json()
    assert (outcome["ready"], outcome["bundle"]) == (True, None), outcome
    assert [w["kind"] for w in admin.get("/v1/service").json()["workers"]] == ["ingest", "jobs"]
    for kind in ("ingest", "jobs"):
        Presence(bus).leave(kind)
    problem(admin.post("/v1/sessions/check", json=body | {"decoding": False, "bundle": "x"}), 422, "request.invalid")


def test_the_simulated_session_is_opened_once_with_a_key_for_its_job(running: Running, admin: httpx.Client) -> None:
    made = admin.post("/v1/simulations", json={"job": "sim-1", "runs": 1})
    assert made.status_code == 201, made.text
    assert admin.post("/v1/simulations", json={"job": "sim-1", "runs": 1}).json() == made.json()
    record = admin.get(f"/v1/sessions/{made.json()['session']}").json()
    assert (record["bundle"], record["state"], record["protocol"]["tr_s"]) == ("demo", "open", 1.5)
    key = running.settings.jobs_dir / "sim-1" / "console.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key.read_text()}"}) as console:
        assert console.get("/v1/keys/own").json()["session"] == record["session"]
    problem(admin.post("/v1/simulations", json={"session": record["session"]}), 409, "job.busy")
    assert admin.delete("/v1/jobs/sim-1").json()["state"] == "cancelled"


def test_how_far_a_session_is(admin: httpx.Client, session: str, make_payload: Callable[..., bytes]) -> None:
    path = f"/v1/sessions/{session}/status"
    begun = admin.get(path).json()
    assert (begun["run"], begun["running"], begun["volumes"], begun["planned_volumes"]) == (1, True, 0, 10)
    put(admin, session, 0, make_payload(0))
    running = admin.get(path).json()
    assert (running["volumes"], running["health"]) == (1, "ok")
    assert running["last_volume_t"] is not None
    admin.post(f"/v1/sessions/{session}/runs/1/end")
    assert admin.get(path).json()["health"] == "idle"


def test_the_audit_log_is_read_from_its_end(admin: httpx.Client, session: str) -> None:
    admin.post(f"/v1/sessions/{session}/close")
    newest, before = admin.get("/v1/service/audit", params={"last": 2}).json()
    assert newest["record"]["route"] == "/v1/sessions/{session}/close"
    assert newest["record"]["of"] == {"session": session}
    assert newest["number"] == before["number"] + 1
