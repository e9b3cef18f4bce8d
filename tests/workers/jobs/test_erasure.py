"""Erasing one of two subjects: nothing of it is left, and nothing of the other is lost."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from mindsight.bus import Lease, Log, WorkQueue
from mindsight.errors import Conflict, NotFound
from mindsight.journal.jobs import Jobs, log_name
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask, ErasureTask, JobNote, JobRecord, dump_job_message
from mindsight.subjects import registry
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Version
from support.house import House
from support.small_bundle import make_bundle
from support.two_sides import CONSENT, SidesRun, archived_session
from workers.ingest.runner import series_path
from workers.jobs import erasure
from workers.jobs.desk import Desk, version_store
from workers.jobs.erasure import IN_FLIGHT_S, _is_about, erase


def desk_of(house: House, subject: str) -> tuple[Desk, ErasureTask]:
    task = ErasureTask(subject=subject)
    record = Jobs(house.bus, time.time).create(JobRecord(job="job-erase", task=task, created_t=1.0))
    lease = Lease.acquire(house.bus, log_name(record.job), "test", 60.0, lambda _: True)
    assert lease is not None
    return Desk(house.settings, house.bus, record, lease), task


def enrolled(house: House, session: str, run: SidesRun) -> str:
    """A subject with all that a subject can have."""
    subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
    archived_session(house, subject, session, [run])
    jobs = Jobs(house.bus, time.time)
    task = CalibrationTask(subject=subject, sessions=(session,))
    record = jobs.create(JobRecord(job=f"job-{session}", task=task, created_t=1.0))
    note = JobNote(job=record.job, t=1.0, code="x.y", text=f"of {session}")
    jobs.log(record.job).append("note", dump_job_message(note))
    jobs.cancel(record.job)
    store = version_store(house.settings)
    number, folder = store.next_folder(subject)
    digest = make_bundle().save(folder).digest
    store.add(Version(number=number, bundle=folder.name, digest=digest, created_t=1.0), subject, activate=True)
    WorkQueue(house.bus, "inference").put(f"{session}-1-1-final", json.dumps({"session": session}).encode())
    job = WorkQueue(house.bus, "pictures")
    job.put(f"{session}-1-1-final", b"x")
    taken = job.take("test", 0.1)
    assert taken is not None
    taken.reject(f"no good in {session}")
    series = series_path(house.settings, session, 1)
    series.parent.mkdir(parents=True, exist_ok=True)
    series.write_bytes(b"voxels")
    (house.settings.jobs_dir / record.job).mkdir(parents=True)
    regions = house.settings.data_dir / "rois" / subject
    regions.mkdir(parents=True)
    (regions / "left.nii").write_bytes(b"mask")
    with (house.settings.data_dir / "logs" / "ingest.log").open("a") as log:
        log.write(f"mindsight archive written: archive/{subject}_{session}\n")
    return subject


def files_of(house: House) -> set[Path]:
    """All but the bus's own."""
    own = house.settings.bus_dir
    return {path for path in house.settings.data_dir.rglob("*") if path.is_file() and own not in path.parents}


def test_nothing_of_the_subject_is_left_and_nothing_of_another_is_lost(house: House) -> None:
    (house.settings.data_dir / "logs").mkdir()
    kept = enrolled(house, "ses-kept", SidesRun(2))
    same = house.blobs.put(b"shown to both")
    for session in ("ses-kept", "ses-gone"):
        Log(house.bus, session, "messages").append("shared", same.encode())
    before = files_of(house)
    gone = enrolled(house, "ses-gone", SidesRun(1))
    orphan, image = house.blobs.put(b"statistics"), house.blobs.put(b"\x89PNG\r\n\x1a\n of a pool")
    fresh = house.blobs.put(b"on its way")
    for digest in (orphan, image):
        os.utime(house.blobs.path(digest), (time.time() - 2 * IN_FLIGHT_S,) * 2)
    desk, task = desk_of(house, gone)
    desk.jobs.begin(desk.record, desk.lease.fence)
    said = erase(desk, task)
    print(said)
    assert said.endswith("nothing is left")
    desk.jobs.finish(desk.record, "done", said)
    desk.jobs.redact(desk.record)
    assert files_of(house) == before | {house.blobs.path(digest) for digest in (image, fresh)}
    for text in (gone, "ses-gone"):
        found = [
            path for path in house.settings.data_dir.rglob("*") if path.is_file() and text.encode() in path.read_bytes()
        ]
        assert found == [], "also not in the bus's own file"
    assert house.blobs.get(same) == b"shown to both"
    assert [record.session for record in Sessions(house.bus).list()] == ["ses-kept"]
    assert Registry(house.settings.subjects_dir).get(kept).bundle == f"{kept}.v1"
    with pytest.raises(NotFound):
        Registry(house.settings.subjects_dir).get(gone)
    assert {job.job for job in Jobs(house.bus, time.time).list()} == {"job-ses-kept", desk.record.job}
    assert [job.key for job in WorkQueue(house.bus, "pictures").dead()] == ["ses-kept-1-1-final"]


def test_one_session_goes_with_what_was_calibrated_from_it_and_the_subject_stays(house: House) -> None:
    """The name of the one that goes begins that of one that stays."""
    (house.settings.data_dir / "logs").mkdir()
    subject = enrolled(house, "ses-1-b", SidesRun(2))
    before = files_of(house)
    log = house.settings.data_dir / "logs" / "ingest.log"
    kept_lines = log.read_text()
    archived_session(house, subject, "ses-1", [SidesRun(1)])
    log.write_text(f"{kept_lines}mindsight archive written: archive/{subject}_ses-1\n")
    jobs, store = Jobs(house.bus, time.time), version_store(house.settings)
    calibration = CalibrationTask(subject=subject, sessions=("ses-1-b", "ses-1"))
    jobs.create(JobRecord(job="job-both", task=calibration, created_t=1.0))
    jobs.cancel("job-both")
    number, folder = store.next_folder(subject)
    version = Version(
        number=number, bundle=folder.name, digest=make_bundle().save(folder).digest, created_t=1.0,
        sessions=("ses-1-b", "ses-1"), source="ses-1, estimated again",
    )  # fmt: skip
    store.add(version, subject, activate=True)
    task = ErasureTask(subject=subject, session="ses-1")
    record = jobs.create(JobRecord(job="job-erase", task=task, created_t=1.0))
    lease = Lease.acquire(house.bus, log_name(record.job), "test", 60.0, lambda _: True)
    assert lease is not None
    desk = Desk(house.settings, house.bus, record, lease)
    desk.jobs.begin(record, lease.fence)
    assert erase(desk, task).startswith("1 session, ")
    assert erase(desk, task).endswith("nothing is left"), "a second time changes nothing"
    assert [record.session for record in Sessions(house.bus).list()] == ["ses-1-b"]
    assert files_of(house) == before
    assert log.read_text() == kept_lines
    assert {job.job for job in jobs.list()} == {"job-ses-1-b", "job-erase"}
    assert Registry(house.settings.subjects_dir).get(subject).bundle == f"{subject}.v1", "the one that is left"
    held = store.read(subject)
    assert (held.activated, [version.removed for version in held.versions]) == ((1,), [False, True])
    assert "ses-1" not in (store.root / f"{subject}.versions.json").read_text()


@pytest.mark.parametrize("name", ["1", "demo"])
def test_a_session_whose_name_is_a_plain_word_goes_and_no_other_word_with_it(house: House, name: str) -> None:
    (house.settings.data_dir / "logs").mkdir()
    subject = enrolled(house, "2", SidesRun(2))
    log = house.settings.data_dir / "logs" / "ingest.log"
    log.write_text("ingest: session 2: run 1 of the demo took 1 s\n")
    archived_session(house, subject, name, [SidesRun(1)])
    with log.open("a") as more:
        more.write(f"ingest: session {name}: a volume was refused\n")
    task = ErasureTask(subject=subject, session=name)
    record = Jobs(house.bus, time.time).create(JobRecord(job="job-erase", task=task, created_t=1.0))
    lease = Lease.acquire(house.bus, log_name(record.job), "test", 60.0, lambda _: True)
    assert lease is not None
    desk = Desk(house.settings, house.bus, record, lease)
    desk.jobs.begin(record, lease.fence)
    assert erase(desk, task).endswith("nothing is left")
    assert log.read_text() == "ingest: session 2: run 1 of the demo took 1 s\n"
    assert [record.session for record in Sessions(house.bus).list()] == ["2"]
    assert {path.name for path in house.settings.archive_dir.iterdir()} == {f"{subject}_2"}


def test_a_job_is_about_a_session_by_what_it_works_on_and_not_by_its_words() -> None:
    other = JobRecord(job="job-b", task=CalibrationTask(subject="sub-b", sessions=("ses-2",)), created_t=1.0)
    assert not _is_about(other, ErasureTask(subject="sub-a", session="calibration"))
    assert _is_about(other, ErasureTask(subject="sub-b", session="ses-2"))
    assert not _is_about(other, ErasureTask(subject="sub-b", session="ses-1"))


@pytest.mark.parametrize("letters", ["qwerty", "012345"])
def test_what_is_left_makes_the_erasure_fail(house: House, letters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudonym is drawn by chance: it may be of letters alone, or of digits."""
    monkeypatch.setattr(registry, "_LETTERS", letters)
    (house.settings.data_dir / "logs").mkdir()
    gone = enrolled(house, "ses-gone", SidesRun(1))
    stray = house.settings.data_dir / "notes.tsv"
    stray.write_text(f"participant\n{gone}\n")
    desk, task = desk_of(house, gone)
    with pytest.raises(Conflict) as left:
        erase(desk, task)
    assert left.value.code == "erasure.left"
    stray.unlink()
    assert erase(desk, task).endswith("nothing is left"), "a second try finds the rest gone"


def test_what_a_worker_has_in_hand_is_waited_for(house: House) -> None:
    """What follows from it would be written after the rest is gone, and stay for ever."""
    (house.settings.data_dir / "logs").mkdir()
    gone = enrolled(house, "ses-gone", SidesRun(1))
    waiting, made = house.blobs.put(b"beta"), []
    messages = Log(house.bus, "ses-gone", "messages")
    messages.append("beta", json.dumps({"beta": waiting}).encode())
    queue, pictures = WorkQueue(house.bus, "inference"), WorkQueue(house.bus, "pictures")
    for trial in (2, 3):
        work = {"session": "ses-gone", "beta": waiting}
        queue.put(f"ses-gone-1-{trial}-final", json.dumps(work).encode())
    while (job := queue.take("worker", 0.1)) is not None and job.key != "ses-gone-1-2-final":
        job.ack()
    assert job is not None
    began = threading.Event()

    def finish() -> None:
        began.wait(30)
        time.sleep(0.5)
        made.append(house.blobs.put(b"picture"))
        messages.append("result", json.dumps({"image": made[0]}).encode())
        pictures.put(job.key, json.dumps({"session": "ses-gone", "beta": waiting}).encode())
        job.ack()

    worker = threading.Thread(target=finish)
    worker.start()
    desk, task = desk_of(house, gone)
    desk.jobs.begin(desk.record, desk.lease.fence)
    began.set()
    assert erase(desk, task).endswith("nothing is left")
    worker.join()
    assert not {waiting, *made} & {stored.digest for stored in house.blobs.listed()}
    assert messages.last_seq() == 0
    assert (len(queue), len(pictures)) == (0, 0)


def test_what_a_dead_worker_had_in_hand_goes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "HELD_S", 0.5)
    (house.settings.data_dir / "logs").mkdir()
    gone = enrolled(house, "ses-gone", SidesRun(1))
    assert WorkQueue(house.bus, "inference").take("worker", 0.1) is not None
    desk, task = desk_of(house, gone)
    desk.jobs.begin(desk.record, desk.lease.fence)
    assert erase(desk, task).endswith("nothing is left")
