"""The report of a calibration over REST: the page and its figures as they lie in the version's bundle."""

from __future__ import annotations

from pathlib import Path

import httpx

from mindsight.subjects.bundle.description import REPORT, REPORT_FIGURES, REPORT_PAGE
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Version, VersionStore
from support.gateway_harness import Running
from support.small_bundle import make_bundle


def write(partial: Path) -> None:
    (partial / REPORT).mkdir()
    (partial / REPORT / REPORT_PAGE).write_text("<p>Ready</p>")
    (partial / REPORT / REPORT_FIGURES).write_text('{"verdict": {"kind": "ready"}}')


def test_the_report_of_a_version_is_read(admin: httpx.Client, running: Running) -> None:
    settings = running.settings
    subject = admin.post("/v1/subjects").json()["subject"]
    store = VersionStore(settings.versions_dir, settings.bundles_dir, Registry(settings.subjects_dir))
    for also in (write, None):
        number, folder = store.next_folder(subject)
        digest = make_bundle().save(folder, also).digest
        version = Version(number=number, bundle=folder.name, digest=digest, created_t=1.0)
        store.add(version, subject, activate=False)
    bundles = f"/v1/subjects/{subject}/bundles"
    page = admin.get(f"{bundles}/1/report.html")
    assert (page.status_code, page.text) == (200, "<p>Ready</p>")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert admin.get(f"{bundles}/1/report.json").json() == {"verdict": {"kind": "ready"}}
    for number, code in ((2, "version.report"), (3, "version.unknown")):
        answer = admin.get(f"{bundles}/{number}/report.html")
        assert (answer.status_code, answer.json()["code"]) == (404, code)
