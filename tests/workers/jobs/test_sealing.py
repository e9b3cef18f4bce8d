"""Archived sessions leave the bus, and are read by the same ways as before."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from mindsight.bus import Bus, WorkQueue
from mindsight.bus.forget import forget_logs, mentions
from mindsight.bus.sealed import SealedLog
from mindsight.errors import Conflict
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.journal.states import SessionState
from mindsight.protocol import SessionClosed
from mindsight.protocol.inputs import StartRun, TakeVolume
from support.house import House
from workers.jobs.sealing import Sealing, seal

N = 150


def used(house: House) -> int:
    """Bytes that the bus holds in its keys."""
    return sum(int(house.bus.command("MEMORY", "USAGE", key) or 0) for key in house.bus.command("KEYS", "*"))


def volume(index: int) -> TakeVolume:
    return TakeVolume(t=2.0, run=1, index=index, digest=f"{index:064x}", shape=(4, 4, 4), nbytes=256, acked_t=2.0)


def archived(house: House, session: str) -> None:
    recorder = house.open(session)
    recorder.start_run(StartRun(t=1.0, run=1, task="view", tr_s=1.5))
    for index in range(N):
        recorder.take_volume(volume(index), 1.0)
    for trial in range(1, 40):
        WorkQueue(house.bus, "inference").put(f"{session}-1-{trial}-final", b"x")
    for job in range(39):
        claimed = WorkQueue(house.bus, "inference").take("test", 1.0)
        assert claimed is not None, job
        claimed.ack()
    recorder.end_run(1)
    recorder.close()
    recorder.archive(f"archive/{session}", 1)


def test_an_archived_session_takes_next_to_no_memory_and_is_read_as_before(house: House) -> None:
    sizes = []
    for number in range(3):
        archived(house, f"ses-{number}")
        if number == 0:
            before = used(house)
        Sealing(house.bus, after_s=-1.0).tidy()
        sizes.append(used(house))
    assert before > 80_000
    assert all(later - earlier < 5_000 for earlier, later in pairwise(sizes))
    journal = Journal(house.bus, "ses-0")
    assert journal.state() is SessionState.ARCHIVED
    assert len([entry for entry in journal.read_inputs() if isinstance(entry, TakeVolume)]) == N
    assert [message.id for message in journal.read_messages()] == list(range(1, N + 6))
    assert (journal.run(1).next_index, journal.run(1).ended) == (N, True)


def test_closing_again_changes_nothing_and_what_is_new_is_refused(house: House) -> None:
    archived(house, "ses-a")
    Sealing(house.bus, after_s=-1.0).tidy()
    recorder = Recorder(house.bus, "ses-a", time.time)
    n = Journal(house.bus, "ses-a").messages.last_seq()
    assert recorder.close().state == "archived"
    recorder.archive("archive/ses-a", 1)
    assert recorder.take_volume(volume(3), 1.0).duplicate
    with pytest.raises(Conflict, match="closed"):
        recorder.take_volume(volume(N), 1.0)
    assert Journal(house.bus, "ses-a").messages.last_seq() == n
    assert isinstance(list(Journal(house.bus, "ses-a").read_messages())[-2], SessionClosed)


def test_what_is_open_or_was_archived_a_moment_ago_stays(house: House) -> None:
    archived(house, "ses-a")
    house.open("ses-b")
    Sealing(house.bus, after_s=3600.0).tidy()
    assert not house.settings.sealed_dir.exists()
    Sealing(house.bus, after_s=-1.0).tidy()
    assert {path.name.split(".")[0] for path in house.settings.sealed_dir.iterdir()} == {"ses-a"}
    assert Sessions(house.bus).get("ses-b").state == "open"


def test_a_job_in_hand_stays_with_its_worker_and_one_that_waits_goes(house: House) -> None:
    """An erasure waits for the first; nobody would find it otherwise."""
    archived(house, "ses-a")
    queue = WorkQueue(house.bus, "inference")
    for trial in (50, 51):
        queue.put(f"ses-a-1-{trial}-final", b"x")
    job = queue.take("test", 1.0)
    assert job is not None
    Sealing(house.bus, after_s=-1.0).tidy()
    assert len(queue) == 1
    job.ack()
    assert (len(queue), queue.take("other", 0.1)) == (0, None)


def test_what_is_sealed_is_not_looked_at_again_and_what_an_older_version_left_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def look(bus: Bus, session: str) -> bool:
        looked.append(session)
        return seal(bus, session)

    monkeypatch.setattr("workers.jobs.sealing.seal", look)
    archived(house, "ses-a")
    sealing = Sealing(house.bus, after_s=-1.0)
    sealing.tidy()
    sealing.tidy()
    Sealing(house.bus, after_s=-1.0).tidy()
    assert looked == ["ses-a"]
    archived(house, "ses-b")
    house.open("ses-c")
    house.bus.command("DEL", "sessions:{all}:current")  # which an older version does not keep
    Sealing(house.bus, after_s=-1.0).tidy()
    assert looked == ["ses-a", "ses-b"]
    assert [record.session for record in Sessions(house.bus).unfinished()] == ["ses-c"]


def test_a_session_to_which_something_is_added_meanwhile_is_sealed_the_next_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(house, "ses-a")
    assert house.bus.sealed is not None
    write, messages = house.bus.sealed.write, Journal(house.bus, "ses-a").messages

    def late(session: str, name: str, log: SealedLog) -> None:
        write(session, name, log)
        if name == "messages":
            messages.append("late", b"{}")

    monkeypatch.setattr(house.bus.sealed, "write", late)
    Sealing(house.bus, after_s=-1.0).tidy()
    assert Sessions(house.bus).unsealed() == {"ses-a"}
    monkeypatch.undo()
    Sealing(house.bus, after_s=-1.0).tidy()
    assert not Sessions(house.bus).unsealed()
    assert messages.find("late") is not None


def test_nothing_is_left_of_a_session_that_is_erased_while_it_is_sealed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(house, "ses-a")
    assert house.bus.sealed is not None
    write = house.bus.sealed.write

    def erased(session: str, name: str, log: SealedLog) -> None:
        Sessions(house.bus).forget(session)
        forget_logs(house.bus, session)
        write(session, name, log)

    monkeypatch.setattr(house.bus.sealed, "write", erased)
    Sealing(house.bus, after_s=-1.0).tidy()
    assert not list(house.settings.sealed_dir.iterdir())
    assert not mentions(house.bus, lambda text: b"ses-a" in text)
