"""Trials from the log of a session that runs, in a real bus and blob store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer
from mindsight.errors import BadRequest
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import SessionRecord
from mindsight.protocol import BetaReady, dump_message
from mindsight.protocol.inputs import AddEvent, StartRun
from mindsight.settings import Settings
from mindsight.stages import Stage
from training.datasets.live import LiveTrials

V = 6


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with EmbeddedServer(Settings(data_dir=tmp_path_factory.mktemp("bus"))) as server:
        bus = Bus(server.url)
        yield bus
        bus.close()


class Session:
    """A session that is written as gateway and ingest write one."""

    def __init__(self, bus: Bus, folder: Path, name: str) -> None:
        self.name, self.blobs, self.journal = name, BlobStore(folder), Journal(bus, name)
        self.recorder = Recorder(bus, name, time.time)
        self.recorder.open(SessionRecord(session=name, subject="sub-p7", opened_t=1.0))
        self.recorder.start_run(StartRun(t=1.0, run=1, task="view", tr_s=2.0))

    def show(self, trial: int | None, onset_s: float, **what: str) -> None:
        event = AddEvent(t=1.0, run=1, trial=trial, onset_s=onset_s, duration_s=3.0, **what)
        self.recorder.add_events(1, [event])

    def beta(self, trial: int, stage: Stage = "final", voxels: int = V) -> None:
        payload = np.full(voxels, trial, "<f4").tobytes()
        ready = BetaReady(
            session=self.name, t=1.0, run=1, trial=trial, stage=stage, n_volumes=9, n_voxels=voxels, flagged=False,
            beta=self.blobs.put(payload),
        )  # fmt: skip
        self.journal.messages.append(f"beta-1-{trial}-{stage}", dump_message(ready))


def test_trials_are_added_as_their_betas_become_final(bus: Bus, tmp_path: Path) -> None:
    session = Session(bus, tmp_path, "live-1")
    live = LiveTrials(session.journal, session.blobs, "mask")
    with pytest.raises(BadRequest, match="got none so far: wait for the first run to end"):
        live.trials()
    session.show(1, 0.0, candidate="dog")
    session.show(2, 4.0, stim_file="cats/tabby.png")
    session.show(None, 8.0, label="blank")
    session.beta(1, "fast")
    assert live.update() == 0
    session.beta(2)
    session.beta(1)
    session.beta(3)  # shown, and its event comes late
    assert live.update() == 2
    trials = live.trials()
    assert (trials.subject, trials.space) == ("p7", "mask")
    assert trials.images == ("cats/tabby", "dog")
    np.testing.assert_array_equal(trials.betas.read(np.arange(2))[:, 0], [2, 1])
    assert live.update() == 0
    session.show(3, 12.0, candidate="dog")
    assert live.update() == 1
    assert live.trials().repeats == (1, 1, 2)
    assert len(live) == 3
    again = LiveTrials(session.journal, session.blobs)
    assert again.update() == 3
    assert sorted(again.trials().images) == sorted(live.trials().images)


def test_betas_of_another_mask_are_refused(bus: Bus, tmp_path: Path) -> None:
    session = Session(bus, tmp_path, "live-2")
    for trial in (1, 2):
        session.show(trial, 4.0 * trial, candidate="dog")
    session.beta(1)
    session.beta(2, voxels=V + 1)
    with pytest.raises(BadRequest, match=r"expected betas of 6 voxels.*trial 2 of run 1 has 7") as raised:
        LiveTrials(session.journal, session.blobs).update()
    assert raised.value.code == "dataset.mask"
