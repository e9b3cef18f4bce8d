"""``mindsight subject``, ``bundle``, ``job`` and ``calibrate`` against a gateway, as a person uses them."""

from __future__ import annotations

import json
import re
import tarfile
import threading
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from mindsight.bus import Bus, Lease
from mindsight.cli.main import app
from mindsight.client import Enrolment
from mindsight.errors import Conflict, DeadlineExceeded
from mindsight.journal.jobs import Jobs, log_name
from mindsight.protocol.jobs import JobLearned, JobProgress, JobTuned, VersionMade, dump_job_message
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Measured, Version, VersionStore
from support.gateway_harness import Running
from support.small_bundle import make_bundle

AGREED = ["--use", "calibration=laboratory", "--use", "decoding=laboratory", "--form", "v3"]


class Shell:
    def __init__(self, running: Running) -> None:
        self._url, self._key = running.url, running.keys["admin"]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--to", self._url], env={"MINDSIGHT_KEY": self._key})


@pytest.fixture
def shell(running: Running) -> Shell:
    return Shell(running)


def test_a_subject_is_enrolled_and_its_consent_changed(shell: Shell) -> None:
    enrolled = shell.run("subject", "enrol", *AGREED, "--use", "export=public")
    subject = enrolled.stdout.strip()
    assert re.fullmatch(r"sub-[a-z0-9]{6}", subject)
    expected = "calibration by the laboratory, decoding by the laboratory, export by the public (form v3)"
    listed = shell.run("subject", "list").stdout
    assert re.search(rf"{subject} +no bundle +{re.escape(expected)}", listed), listed
    assert subject in {one["subject"] for one in json.loads(shell.run("subject", "list", "--json").stdout)}
    assert "nothing (form v4)" in shell.run("subject", "consent", subject, "--form", "v4").stdout
    assert getattr(shell.run("subject", "enrol", "--use", "export=public").exception, "code", "") == "cli.consent"


def test_versions_go_back_and_out_in_one_command(shell: Shell, running: Running, tmp_path: Path) -> None:
    settings = running.settings
    subject = shell.run("subject", "enrol", *AGREED, "--use", "export=public").stdout.strip()
    store = VersionStore(settings.versions_dir, settings.bundles_dir, Registry(settings.subjects_dir))
    for right in (5, 9):
        number, folder = store.next_folder(subject)
        digest = make_bundle().save(folder).digest
        measured = Measured(accuracy=right / 24, low=0.1, high=0.6, n=24, chance=0.125)
        version = Version(
            number=number, bundle=folder.name, digest=digest, created_t=1.0, n_trials=24, n_runs=3, measured=measured
        )
        store.add(version, subject, activate=True)
    _, *listed = shell.run("bundle", "list", subject).stdout.splitlines()
    assert [line.split()[:2] for line in listed][1] == ["*", "2"]
    assert listed[0].split()[0] == "1"
    assert "37.5% (n 24, 95 % interval 10.0% to 60.0%, chance 12.5%)" in listed[1]
    assert shell.run("bundle", "rollback", subject).stdout.strip() == f"{subject}.v1"
    assert shell.run("bundle", "activate", subject, "2").stdout.strip() == f"{subject}.v2"
    file = tmp_path / "version.tar"
    assert listed[0].split()[-1] in shell.run("bundle", "export", subject, "1", str(file)).stdout
    with tarfile.open(file) as exported:
        assert f"{subject}.v1/bundle.json" in exported.getnames()
    again = shell.run("bundle", "export", subject, "1", str(file))
    assert isinstance(again.exception, Conflict)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["version.tar"]


def test_a_calibration_is_followed_to_its_end(shell: Shell, bus: Bus, admin: httpx.Client) -> None:
    subject = shell.run("subject", "enrol", *AGREED).stdout.strip()
    session = admin.post("/v1/sessions", json={"subject": subject, "calibration": True}).json()["session"]
    jobs = Jobs(bus, time.time)

    def carry_out() -> None:
        """What a worker would report."""
        while not (waiting := [r for r in jobs.list() if getattr(r.task, "live", None) == session]):
            time.sleep(0.02)
        (record,) = waiting
        lease = Lease.acquire(bus, log_name(record.job), "test", 60.0)
        assert lease is not None
        jobs.begin(record, lease.fence)
        named = {"job": record.job, "t": 1.0}
        for key, message in {
            "a": JobProgress(**named, step="betas", done=300, n=900, left_s=720.0),
            "b": JobLearned(
                **named, n_runs=3, n_trials=24, minutes=15.1, accuracy=0.5, low=0.3, high=0.7, n=24, chance=0.125
            ),
            "c": JobTuned(**named, steps=20, loss=2.5),
            "d": VersionMade(**named, version=1, bundle="x", digest="0" * 64, active=True, text="the first version"),
        }.items():
            jobs.log(record.job).append(key, dump_job_message(message))
        jobs.finish(record, "done", "version 1", fence=lease.fence)

    worker = threading.Thread(target=carry_out)
    worker.start()
    done = shell.run("calibrate", subject, "--live", session)
    worker.join(10.0)
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            "betas: 300 of 900, 12 min left",
            "24 trials in 3 runs, 15.1 min of scanning: held-out accuracy 50.0% (n 24, 95 % interval 30.0% to 70.0%,"
            " chance 12.5%)",
            "20 gradient steps: loss of held-out images 2.500",
            "version 1 (active): the first version",
            "done: version 1",
        ],
    )
    job = shell.run("calibrate", subject, "--live", session, "--detach").stdout.strip()
    assert re.search(rf"{job} +calibration +{subject} +queued", shell.run("job", "list").stdout)
    shell.run("job", "cancel", job)
    watched = shell.run("job", "watch", job)
    assert (watched.exit_code, watched.stderr.strip()) == (1, "cancelled: cancelled before it began")
    wrong = shell.run("calibrate", "run-1")
    assert "recorded runs need --out BUNDLE" in str(wrong.exception)


def test_following_a_job_that_says_nothing_ends(running: Running, admin: httpx.Client) -> None:
    subject = admin.post("/v1/subjects", json={"consent": {"uses": {"calibration": "public"}, "form": "v1"}}).json()
    opened = admin.post("/v1/sessions", json={"subject": subject["subject"], "calibration": True}).json()
    with Enrolment(running.url, running.keys["admin"]) as service:
        job = service.calibrate(subject["subject"], live=opened["session"])
        with pytest.raises(DeadlineExceeded, match="jobs worker"):
            list(service.follow(job, silence_s=0.1))
        service.cancel(job)
