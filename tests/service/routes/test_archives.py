"""A closed session's report and archive, over REST and by ``mindsight session``."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import httpx
import pyrage
import pytest
from typer.testing import CliRunner

from mindsight.archive import write_archive
from mindsight.bus import Bus
from mindsight.cli.main import app
from mindsight.evaluation.visit_report import write_report
from mindsight.journal.sessions import Sessions
from support.archive_example import make_decoded_session
from support.gateway_harness import Running

AGREED = {"uses": {"export": "public", "decoding": "laboratory"}, "form": "v1"}


@pytest.fixture
def archived(running: Running, admin: httpx.Client, bus: Bus) -> str:
    """An archived session whose subject agreed to an export, with its report."""
    subject = admin.post("/v1/subjects", json={"consent": AGREED}).json()["subject"]
    session: str = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    folder = running.settings.archive_dir / f"{subject}_{session}"
    folder.parent.mkdir(exist_ok=True)
    write_archive(make_decoded_session(subject=subject, session=session), folder)
    write_report(folder)
    Sessions(bus).advance(session, "archived")
    return session


def test_the_archive_comes_as_one_file_with_a_manifest(admin: httpx.Client, archived: str) -> None:
    answer = admin.get(f"/v1/sessions/{archived}/export")
    assert answer.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        names = tar.getnames()
        root = names[0].partition("/")[0]
        assert names[-1] == f"{root}/manifest.json"
        content = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    listed = json.loads(content.pop(names[-1]))["files"]
    assert {f"{root}/{name}" for name in listed} == set(content)
    for name, stated in listed.items():
        found = content[f"{root}/{name}"]
        assert (len(found), hashlib.sha256(found).hexdigest()) == (stated["bytes"], stated["sha256"])
    assert any(name.startswith("rawdata/") for name in listed)
    assert any(name.startswith("derivatives/mindsight/") for name in listed)


def test_the_report_is_a_page_that_loads_nothing(running: Running, admin: httpx.Client, archived: str) -> None:
    answer = admin.get(f"/v1/sessions/{archived}/report.html")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    with running.client("viewer") as viewer:  # it shows what was shown
        assert viewer.get(f"/v1/sessions/{archived}/report.html").status_code == 403
        assert viewer.get(f"/v1/sessions/{archived}/export").status_code == 403


def test_a_session_that_is_open_or_may_not_leave_is_refused(admin: httpx.Client, archived: str, session: str) -> None:
    for path in ("export", "report.html"):
        refused = admin.get(f"/v1/sessions/{session}/{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "session.not_archived")
    subject = admin.get(f"/v1/sessions/{archived}").json()["subject"]
    admin.put(f"/v1/subjects/{subject}/consent", json={"uses": {"decoding": "laboratory"}, "form": "v2"})
    refused = admin.get(f"/v1/sessions/{archived}/export")
    assert (refused.status_code, refused.json()["code"]) == (409, "consent.refused")


def test_both_are_commands(running: Running, archived: str, tmp_path: Path) -> None:
    for command, name in (("export", "a.tar"), ("report", "a.html")):
        arguments = ["session", command, archived, str(tmp_path / name), "--to", running.url]
        done = CliRunner().invoke(app, arguments, env={"MINDSIGHT_KEY": running.keys["experimenter"]})
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).stat().st_size > 10_000
    data = {"MINDSIGHT_DATA_DIR": str(running.settings.data_dir)}
    made = CliRunner().invoke(app, ["export", str(tmp_path / "study"), "--json"], env=data)
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert facts["sessions"] >= 1
    assert all("consent" in why for why in facts["left_out"].values())


def test_a_copy_for_others_is_encrypted_for_them_alone(running: Running, archived: str, tmp_path: Path) -> None:
    theirs, foreign = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    plain, sealed = tmp_path / "a.tar", tmp_path / "a.tar.age"
    for file, more in ((plain, []), (sealed, ["--recipient", str(theirs.to_public())])):
        arguments = ["session", "export", archived, str(file), "--to", running.url, *more]
        done = CliRunner().invoke(app, arguments, env={"MINDSIGHT_KEY": running.keys["experimenter"]})
        assert done.exit_code == 0, done.output
    assert pyrage.decrypt(sealed.read_bytes(), [theirs]) == plain.read_bytes()
    assert sealed.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert b"manifest.json" not in sealed.read_bytes()
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed.read_bytes(), [foreign])
