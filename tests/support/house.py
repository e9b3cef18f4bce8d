"""A bus and workers of one data folder, as processes; inputs written as the gateway writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import SessionRecord
from mindsight.operations.supervisor import environment
from mindsight.protocol import Message
from mindsight.protocol.inputs import AddEvent, SessionOptions, StartRun, TakeVolume
from mindsight.settings import Settings
from mindsight.simulator.experiment import RunPlan
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume

DEADLINE_S = 90.0


class House:
    """One data folder with a running bus, and worker processes that the test starts and kills."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bus = Bus.from_settings(settings)
        self.blobs = BlobStore(settings.blobs_dir)
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self, module: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module], env=environment(self.settings), start_new_session=True
        )
        self._workers.append(process)
        return process

    def running(self, module: str) -> subprocess.Popen[bytes]:
        """The last one that was started, where it still runs: starting one takes seconds."""
        if self._workers and self._workers[-1].poll() is None:
            return self._workers[-1]
        return self.start(module)

    def stop(self) -> None:
        for process in self._workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self.bus.close()

    def open(self, session: str, bundle: str | None = None, **options: float) -> Recorder:
        recorder = Recorder(self.bus, session, time.time)
        recorder.open(
            SessionRecord(
                session=session,
                subject="sub-test",
                bundle=bundle,
                options=SessionOptions(**options),
                opened_t=time.time(),
            )
        )
        return recorder

    def declare(self, recorder: Recorder, plan: RunPlan) -> None:
        recorder.start_run(StartRun(t=time.time(), run=plan.run, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes))
        recorder.add_events(
            plan.run,
            [
                AddEvent(t=time.time(), run=plan.run, trial=s.trial, onset_s=s.onset_s, duration_s=s.duration_s)
                for s in plan.shown
            ],
        )

    def put(self, recorder: Recorder, volume: Volume) -> None:
        payload = encode_volume(volume)
        now = time.time()
        recorder.take_volume(
            TakeVolume(
                t=now,
                run=volume.run,
                index=volume.index,
                digest=self.blobs.put(payload),
                shape=volume.shape,
                nbytes=len(payload),
                acked_t=now,
            ),
            received_ms=0.0,
        )

    def messages(self, session: str) -> list[Message]:
        return list(Journal(self.bus, session).read_messages())

    def wait(self, session: str, done: Callable[[list[Message]], bool]) -> list[Message]:
        """The session's messages as soon as they satisfy ``done``; fails at the deadline."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            messages = self.messages(session)
            if done(messages):
                return messages
            time.sleep(0.1)
        raise AssertionError(f"waited {DEADLINE_S:.0f} s in vain; last message: {self.messages(session)[-1]}")


@contextmanager
def opened(data_dir: Path) -> Iterator[House]:
    settings = Settings(data_dir=data_dir, port=0)
    with EmbeddedServer(settings):
        house = House(settings)
        try:
            yield house
        finally:
            house.stop()
