"""What the live tests share: the running service, ``mindsight stream`` as a process, and what has arrived."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from mindsight.blobs import open_blobs
from mindsight.bus import Bus, Log
from mindsight.client import Console
from mindsight.operations.supervisor import Supervisor, environment
from mindsight.protocol import Message, SessionArchived, Warned, parse_message
from mindsight.protocol.inputs import Input, SkipVolume, TakeVolume, parse_input
from mindsight.settings import Settings
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume

DEADLINE_S = 150.0


@dataclass
class Service:
    """Bus, gateway and ingest worker, as processes."""

    settings: Settings
    supervisor: Supervisor
    url: str
    key: str

    def mindsight(self, *arguments: object, key: str | None = None) -> subprocess.CompletedProcess[str]:
        """The command line, as a person uses it."""
        return subprocess.run(
            [sys.executable, "-m", "mindsight.cli", *map(str, arguments)],
            env=self.environment(key),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    def environment(self, key: str | None = None) -> dict[str, str]:
        return environment(self.settings) | {"MINDSIGHT_KEY": self.key if key is None else key}

    def open_session(self) -> str:
        with self.console() as console:
            return console.open_session(console.enrol())

    def console(self, session: str | None = None) -> Console:
        return Console(self.url, self.key, session=session, spool_dir=self.settings.data_dir / "spool", deadline_s=5.0)

    def messages(self, session: str) -> list[Message]:
        return [parse_message(payload, id=seq) for seq, payload in self._entries(session, "messages")]

    def inputs(self, session: str) -> list[Input]:
        return [parse_input(payload) for _, payload in self._entries(session, "input")]

    def arrived(self, session: str) -> dict[int, list[Volume]]:
        """Of each run, the volumes that were acknowledged, from the files that the betas are made of."""
        blobs, found = open_blobs(self.settings), dict[int, list[Volume]]()
        for entry in self.inputs(session):
            if isinstance(entry, TakeVolume):
                volume = decode_volume(blobs.get(entry.digest))
                assert (volume.run, volume.index) == (entry.run, entry.index)
                found.setdefault(entry.run, []).append(volume)
        return found

    def missing(self, session: str) -> list[tuple[int, int]]:
        return [(entry.run, entry.index) for entry in self.inputs(session) if isinstance(entry, SkipVolume)]

    def warnings(self, session: str) -> list[tuple[str, str]]:
        """Code and text of each warning in the session's log of messages."""
        return [(m.code, m.text) for m in self.messages(session) if isinstance(m, Warned)]

    def wait(self, session: str, done: Callable[[list[Message]], bool], deadline_s: float = 180.0) -> list[Message]:
        """The session's messages as soon as they satisfy ``done``; fails at the deadline."""
        until = time.monotonic() + deadline_s
        messages: list[Message] = []
        with contextlib.closing(Bus.from_settings(self.settings)) as bus:
            log = Log(bus, session, "messages")
            while time.monotonic() < until:
                after = messages[-1].id if messages else 0
                messages += [parse_message(payload, id=seq) for seq, payload in _entries(log, after)]
                if messages and done(messages):
                    return messages
                time.sleep(0.1)
        raise AssertionError(f"waited {deadline_s:.0f} s in vain; last message: {messages[-1:]}")

    def _entries(self, session: str, name: str) -> Iterator[tuple[int, bytes]]:
        with contextlib.closing(Bus.from_settings(self.settings)) as bus:
            yield from _entries(Log(bus, session, name))


def _entries(log: Log, after: int = 0) -> Iterator[tuple[int, bytes]]:
    while page := log.read(after):
        yield from ((entry.seq, entry.payload) for entry in page)
        after = page[-1].seq


@contextlib.contextmanager
def running_service(data_dir: Path, **given: Any) -> Iterator[Service]:
    settings = Settings(data_dir=data_dir, port=0, **given)
    keys: dict[str, str] = {}

    def keep_key(line: str) -> None:
        role, _, key = line.partition(" key: ")
        keys[role] = key

    supervisor = Supervisor(settings, announce=keep_key, parts=("bus", "gateway", "ingest"))
    url = supervisor.start()
    try:
        yield Service(settings, supervisor, url, keys["experimenter"])
    finally:
        supervisor.stop()


def is_archived(messages: list[Message]) -> bool:
    return isinstance(messages[-1], SessionArchived)


class StreamProcess:
    """``mindsight stream`` as a process that listens from when it is entered, and is stopped with Ctrl-C."""

    def __init__(self, service: Service, session: str, source: str, *options: object) -> None:
        self._command = [sys.executable, "-m", "mindsight.cli", "stream", source, "--session", session]
        self._command += map(str, options)
        self._environment = service.environment()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.lines: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> StreamProcess:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,)),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,)),
        ]
        for reader in self._readers:
            reader.start()
        self.until("listening")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        for reader in self._readers:
            reader.join(10)

    def until(self, words: str, deadline_s: float = 180.0) -> str:
        """The first line from now on with these words; fails where the process ends before."""
        until = time.monotonic() + deadline_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {words!r} within {deadline_s:g} s in {self.lines}, {self.errors}") from None
            assert line is not None, f"ended before it printed {words!r}: {self.lines}, {self.errors}"
            if words in line:
                return line

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def stop(self, code: int = 0) -> str:
        """Ctrl-C; returns the last line. ``code`` is 3 where something was lost."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(30) == code, self.errors
        for reader in self._readers:
            reader.join(10)
        return self.lines[-1]

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self.lines.append(line.rstrip())
                self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self.errors.append(line.rstrip())


def kill_part(service: Service, part: str) -> None:
    """SIGKILL to a part of the service and all that it started; the supervisor starts it again."""
    os.killpg(service.supervisor.process(part).pid, signal.SIGKILL)


def same(arrived: Iterable[Volume], truth: Iterable[Volume]) -> None:
    """Bytes, affine, order and TR of each volume; fails with the first that differs."""
    for volume, true in zip(arrived, truth, strict=True):
        assert volume.index == true.index
        assert volume.data.dtype == true.data.dtype, volume.index
        assert np.array_equal(volume.data, true.data), f"voxels of volume {volume.index}"
        assert np.array_equal(volume.affine, true.affine), f"affine of volume {volume.index}"
        assert volume.tr_s == true.tr_s
        assert volume.arrived_s is not None
