"""Erasing a session: whom the route lets wait, which keys end, and what a site's retention period asks for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from mindsight.bus import Bus, EmbeddedServer
from mindsight.cli.main import app
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol.jobs import ErasureTask
from mindsight.settings import Settings
from service.context import Gateway
from service.erasures import DAY_S, erase_old
from support.gateway_harness import Running


def test_a_session_is_erased_once_it_is_archived_and_its_keys_end(
    running: Running, admin: httpx.Client, bus: Bus, session: str
) -> None:
    unfinished = admin.delete(f"/v1/sessions/{session}")
    assert (unfinished.status_code, unfinished.json()["code"]) == (409, "subject.busy")
    console = admin.post(f"/v1/sessions/{session}/keys").json()["id"]
    Sessions(bus).advance(session, "archived")
    begun = admin.delete(f"/v1/sessions/{session}")
    assert begun.status_code == 202, begun.text
    subject = admin.get(f"/v1/sessions/{session}").json()["subject"]
    assert begun.json()["task"] == {"kind": "erasure", "subject": subject, "session": session}
    assert console not in {key["id"] for key in admin.get("/v1/keys").json()}
    again = admin.delete(f"/v1/sessions/{session}")
    assert (again.status_code, again.json()["code"]) == (409, "job.busy")
    missing = admin.delete("/v1/sessions/nobody-knows")
    assert (missing.status_code, missing.json()["code"]) == (404, "session.unknown")


def test_the_command_asks_first(running: Running, session: str) -> None:
    arguments = ["session", "erase", session, "--to", running.url]
    done = CliRunner().invoke(app, arguments, env={"MINDSIGHT_KEY": running.keys["admin"]})
    assert done.exit_code != 0
    assert "--yes" in str(done.exception)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    settings = Settings(data_dir=tmp_path, retention_days=90)
    with EmbeddedServer(settings):
        gateway = Gateway(settings)
        gateway.bus.wait_ready(20.0)
        yield gateway
        gateway.bus.close()


def _session(gateway: Gateway, name: str, days: float, *, subject: str = "") -> str:
    """Archived, and opened so many days ago; returns its subject."""
    subject = subject or gateway.registry.enrol(1.0).subject
    opened_t = time.time() - days * DAY_S
    gateway.sessions.create(SessionRecord(session=name, subject=subject, opened_t=opened_t))
    gateway.sessions.advance(name, "archived")
    return subject


def test_what_is_older_than_the_site_keeps_it_is_erased_and_the_audit_log_says_so(gateway: Gateway) -> None:
    subject = _session(gateway, "ses-old", 91.0)
    _session(gateway, "ses-older", 100.0, subject=subject)
    _session(gateway, "ses-new", 89.0)
    in_use = _session(gateway, "ses-other", 95.0)
    gateway.sessions.create(SessionRecord(session="ses-open", subject=in_use, opened_t=time.time()))
    asked = erase_old(gateway)
    assert asked == ["ses-older"], "one job of a subject at a time, and none of one that is being scanned"
    assert [job.task for job in gateway.jobs.list()] == [ErasureTask(subject=subject, session="ses-older")]
    (line,) = gateway.settings.audit_file.read_text().splitlines()
    record = json.loads(line)["record"]
    assert (record["key"], record["of"]) == ("retention", {"session": "ses-older"})
    (job,) = gateway.jobs.list()
    gateway.jobs.cancel(job.job)
    gateway.sessions.forget("ses-older")
    assert erase_old(gateway) == ["ses-old"]


def test_without_a_retention_period_nothing_is_erased(gateway: Gateway) -> None:
    gateway.settings = gateway.settings.model_copy(update={"retention_days": None})
    _session(gateway, "ses-old", 10_000.0)
    assert erase_old(gateway) == []
    assert gateway.jobs.list() == []
