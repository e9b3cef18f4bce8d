"""The archive waits for pictures, not only for answers, and one refused job does not cut the others short."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from mindsight.bus import Log, WorkQueue
from mindsight.protocol import BetaReady, dump_message
from workers import archive
from workers.archive import Archivist

if TYPE_CHECKING:
    from conftest import House


def test_it_waits_while_there_is_work_and_no_longer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ANSWERS_DEADLINE_S", 20.0)
    house.open("ses-a", "some-bundle")
    for trial in (1, 2):
        beta = BetaReady(
            session="ses-a", t=1.0, run=1, trial=trial, stage="final", n_volumes=9, n_voxels=5, flagged=False,
            beta="0" * 64,
        )  # fmt: skip
        Log(house.bus, "ses-a", "messages").append(f"beta-1-{trial}-final", dump_message(beta))
    WorkQueue(house.bus, "inference").put("one", b"x")
    WorkQueue(house.bus, "pictures").put("two", b"y")
    returned = threading.Event()

    def wait() -> None:
        Archivist(house.settings, house.bus, "ses-a")._await_answers()
        returned.set()

    thread = threading.Thread(target=wait)
    thread.start()
    for name in ("inference", "pictures"):
        assert not returned.wait(0.7)
        job = WorkQueue(house.bus, name).take("test", 1.0)
        assert job is not None
        if name == "inference":
            job.reject("cannot be done")
        else:
            job.ack()
    began_s = time.monotonic()
    thread.join(10.0)
    assert returned.is_set()
    assert time.monotonic() - began_s < 5.0
