"""All processes of the service, with a console, and what an experimenter may ask of it."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindsight.accuracy import Accuracy
from mindsight.client import Console, Enrolment, Watch
from mindsight.operations.supervisor import Supervisor
from mindsight.protocol import Message, Result, SessionArchived
from mindsight.protocol.jobs import JobEnded, JobLearned, JobMessage, JobProgress
from mindsight.settings import Settings
from mindsight.stages import Stage

CONSENT = {"uses": {"decoding": "laboratory", "calibration": "laboratory"}, "form": "v1"}
ARCHIVE_S = 300.0

Key = tuple[str, int, int]
"""Session, run, trial."""


@dataclass
class WholeService:
    """shown : what each trial showed, as the bundle's pool names it"""

    settings: Settings
    supervisor: Supervisor
    url: str
    key: str
    console: Console
    service: Enrolment
    shown: dict[Key, str] = field(default_factory=dict)

    def scan(
        self,
        session: str,
        run: int,
        events: Sequence[Mapping[str, Any]],
        volumes: Iterator[Any],
        tr_s: float,
        n_volumes: int,
        **declared: Any,
    ) -> None:
        """One run, as fast as possible."""
        self.console.start_run(run, task="view", tr_s=tr_s, n_volumes=n_volumes, **declared)
        for event in events:
            if event.get("trial") is not None:
                self.shown[session, run, event["trial"]] = event.get("candidate") or event["label"]
        self.console.add_events(run, events)
        for volume in volumes:
            self.console.send(volume)
        self.console.end_run(run)

    def close(self, session: str) -> list[Message]:
        """All messages of the session, once it is archived."""
        self.console.close_session()
        messages = list(Watch(self.url, self.key, session, deadline_s=ARCHIVE_S))
        assert isinstance(messages[-1], SessionArchived)
        return messages

    def await_fit(self, job: str, run: int, deadline_s: float = 60.0) -> None:
        """Wait until a live calibration has fitted the run, as a scan takes longer than a fit; or for the deadline."""
        until_s, last = time.monotonic() + deadline_s, 0
        while time.monotonic() < until_s:
            for message in self.service.messages(job, last):
                last = message.id
                if isinstance(message, JobProgress) and message.step == "runs" and message.done >= run:
                    return
            time.sleep(0.2)

    def kill(self, job: str) -> None:
        """End the job's process, as running out of memory would."""
        worker = self.supervisor.process("jobs").pid
        until_s = time.monotonic() + 30.0
        while (pid := child_of(worker, job)) is None and time.monotonic() < until_s:
            time.sleep(0.02)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def kill_worker(self) -> None:
        """End the worker that started the job; the supervisor starts another."""
        self.supervisor.process("jobs").kill()

    def done(self, job: str) -> list[JobMessage]:
        """All messages of the job, once it is done; its learning curve is printed."""
        messages = list(self.service.follow(job))
        for point in (message for message in messages if isinstance(message, JobLearned)):
            accuracy = Accuracy(round(point.accuracy * point.n), point.n, point.chance)
            print(f"{point.n_runs} runs, {point.n_trials} trials, {point.minutes} min: held out {accuracy}")
        assert isinstance(messages[-1], JobEnded)
        assert messages[-1].outcome == "done", messages[-1]
        return messages

    def accuracy(self, session: str, messages: Sequence[Message], stage: Stage, n_pool: int, lag: int = 0) -> Accuracy:
        """Of the first candidate. lag : compare with what was shown so many trials later, as a control"""
        keys = sorted(key for key in self.shown if key[0] == session)
        truth = {key: self.shown[keys[(i + lag) % len(keys)]] for i, key in enumerate(keys)}
        results = [m for m in messages if isinstance(m, Result) and m.stage == stage]
        return Accuracy.of([m.candidates[0].id == truth[session, m.run, m.trial] for m in results], 1.0 / n_pool)


def child_of(parent: int, job: str) -> int | None:
    """The process that carries the job out for a worker."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes()
                own = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if own == parent and job.encode() in command.split(b"\0"):
                return int(folder.name)
    return None


@contextmanager
def whole_service(folder: Path, **settings: Any) -> Iterator[WholeService]:
    keys: queue.Queue[str] = queue.Queue()

    def announce(line: str) -> None:
        role, _, key = line.partition(" key: ")
        if role == "admin":
            keys.put(key)

    given = Settings(data_dir=folder / "data", port=0, **settings)
    supervisor = Supervisor(given, announce=announce)
    url = supervisor.start()
    try:
        key = keys.get(timeout=10.0)
        with Console(url, key, spool_dir=folder / "spool") as console, Enrolment(url, key) as service:
            yield WholeService(given, supervisor, url, key, console, service)
    finally:
        supervisor.stop()
