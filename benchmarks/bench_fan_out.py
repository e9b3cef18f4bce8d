"""Dashboards by the hundred on one gateway: how old messages and pictures are when they arrive, and what that costs.

    python benchmarks/bench_fan_out.py [--seconds 8] [--whole] [--no-history]

Bus and gateway run as processes of their own, the watchers share one more. Five messages a second are written into one
session's log as a worker writes them; every fifth brings a picture of 200 KB, which a dashboard gets on the lane of
pictures ("pushed") or by a GET of its own ("fetched"). Ages are from the moment that a message is written until a
watcher has all of it. Stalled watchers shake hands and then take nothing.

The floor of a picture is the same bytes through as many local sockets, written by one thread and read by another.
``--whole``: each phase for 30 seconds.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import report

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer, Log
from mindsight.client import Console
from mindsight.protocol import Reconstruction, VolumeReceived, dump_message
from mindsight.protocol.stream import unpack_latest
from mindsight.settings import Settings
from service.keys import create_keys

SESSION = "fan"
PICTURE_BYTES = 200_000
PER_S = 5
ARRIVE_S = 1.0  # what was written last arrives, too
GOALS = {"p50": 50.0, "p99": 250.0, "rss_mb": 300.0}


@dataclass(frozen=True)
class Phase:
    name: str
    watchers: int
    pictures: str = ""  # "pushed", "fetched", or none
    stalled: int = 0


PHASES = (
    Phase("10 dashboards", 10, "pushed"),
    Phase("100 dashboards", 100, "pushed"),
    Phase("100 dashboards beside 10 stalled", 100, "pushed", stalled=10),
    Phase("100 dashboards, pictures fetched", 100, "fetched"),
    Phase("1,000 watchers of messages", 1000),
)


@dataclass
class Watcher(asyncio.Protocol):
    """A client of the stream that costs little, so that what is measured is the gateway: it reads frames by hand."""

    task: dict[str, Any]
    seen: dict[str, Any]
    after: int
    buffer: bytearray = field(default_factory=bytearray)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    fetches: asyncio.Queue[tuple[str, float]] = field(default_factory=asyncio.Queue)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(handshake(self.task["key"], self.after))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.opened.is_set():
            head, found, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head[:20]:
                self.seen["problems"].append(head[:40].decode())
                self.transport.close()
                return
            self.buffer[:] = rest
            self.opened.set()
            if self.task["pictures"] == "pushed":
                self.transport.write(masked(b'{"type":"want","lanes":["pictures"]}'))
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def _frame(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next whole frame."""
        if len(self.buffer) < 2:
            return None
        length, at = self.buffer[1] & 127, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(self.buffer) < 2 + size:
                return None
            length, at = int.from_bytes(self.buffer[2 : 2 + size], "big"), 2 + size
        if len(self.buffer) < at + length:
            return None
        opcode, payload = self.buffer[0] & 15, bytes(self.buffer[at : at + length])
        del self.buffer[: at + length]
        return opcode, payload

    def _take(self, opcode: int, payload: bytes) -> None:
        now = time.time()
        if opcode == 2:
            header, _ = unpack_latest(payload)
            self.seen["pictures"].append(now - self.seen["written"][str(header.message)])
        elif opcode == 1:
            message = json.loads(payload)
            if message["type"] == "tick":
                return
            if message["id"] != self.after + 1:
                self.seen["problems"].append(f"expected {self.after + 1}, got {message['id']}")
            self.after = message["id"]
            self.seen["events"].append(now - message["t"])
            if message["type"] == "reconstruction":
                self.seen["written"][str(message["id"])] = message["t"]
                self.fetches.put_nowait((message["image"], message["t"]))
        elif opcode == 8:
            self.seen["problems"].append(f"closed: {payload[2:].decode()}")

    async def fetch(self) -> None:
        """GET every picture that is announced."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.task["port"], limit=1 << 20)
        while True:
            digest, written = await self.fetches.get()
            writer.write(
                f"GET /v1/images/{digest} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.task['key']}"
                "\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            if b" 200 " not in head[:20]:
                self.seen["problems"].append(head[:40].decode())
            self.seen["pictures"].append(time.time() - written)


def handshake(key: str, after: int) -> bytes:
    return (
        f"GET /v1/sessions/{SESSION}/stream?after={after} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nAuthorization: Bearer {key}\r\n\r\n"
    ).encode()


def masked(text: bytes) -> bytes:
    """A text frame of a client, whose mask may be zero."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


def watch(task: dict[str, Any]) -> None:
    """The process of the watchers: prints what they saw."""
    seen: dict[str, Any] = {"events": [], "pictures": [], "problems": [], "written": {}}

    async def run() -> None:
        loop = asyncio.get_running_loop()
        watchers = [Watcher(task, seen, task["after"]) for _ in range(task["watchers"])]
        for watcher in watchers:
            await loop.create_connection(lambda watcher=watcher: watcher, "127.0.0.1", task["port"])  # type: ignore[misc]
        fetching = [loop.create_task(one.fetch()) for one in watchers] if task["pictures"] == "fetched" else []
        await asyncio.gather(*(watcher.opened.wait() for watcher in watchers))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # until told to stop
        for one in fetching:
            one.cancel()

    asyncio.run(run())
    ms = {what: [1e3 * age for age in seen[what]] for what in ("events", "pictures")}
    print(json.dumps({**ms, "problems": seen["problems"]}))


@contextlib.contextmanager
def gateway(folder: Path) -> Iterator[tuple[Settings, int, int, dict[str, str]]]:
    """Settings, port, process and keys of a gateway and its bus."""
    settings = Settings(data_dir=folder, port=0, redis_url="embedded://")
    keys = {str(role): key for role, key in create_keys(folder).items()}
    environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(folder), "MINDSIGHT_REDIS_URL": "embedded://"}
    with EmbeddedServer(settings):
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            url = next(line for line in process.stdout if "ready at" in line).split()[-1]
            with Console(url, keys["experimenter"], spool_dir=folder / "spool") as console:
                console.open_session(console.enrol(), session=SESSION)
            yield settings, int(url.rpartition(":")[2]), process.pid, keys
        finally:
            process.terminate()
            process.wait(15)


def write(settings: Settings, stop: threading.Event, numbers: Iterator[int]) -> None:
    """Messages as a worker writes them, until told to stop."""
    with contextlib.closing(Bus.from_settings(settings)) as bus:
        log, blobs = Log(bus, SESSION, "messages"), BlobStore(settings.blobs_dir)
        began = time.monotonic()
        for k in itertools.count():
            if stop.wait(max(0.0, began + k / PER_S - time.monotonic())):
                return
            if k % PER_S == 0:
                image = blobs.put(b"\x89PNG\r\n\x1a\n" + os.urandom(PICTURE_BYTES))
                message: Any = Reconstruction(
                    session=SESSION, t=time.time(), run=1, trial=k + 1, stage="fast", image=image, seed=1,
                    evaluations=4, generator="0" * 64,
                )  # fmt: skip
            else:
                message = VolumeReceived(session=SESSION, t=time.time(), run=1, index=k)
            log.append(f"made-{next(numbers)}", dump_message(message))


def measured(
    phase: Phase, seconds: float, settings: Settings, port: int, pid: int, key: str, numbers: Iterator[int]
) -> dict[str, Any]:
    """One phase's figures."""
    with contextlib.closing(Bus.from_settings(settings)) as bus:
        after = Log(bus, SESSION, "messages").last_seq()  # what earlier phases wrote is none of this one's
    stalled = [stall(port, key, after) for _ in range(phase.stalled)]
    task = {
        "port": port, "key": key, "watchers": phase.watchers, "pictures": phase.pictures, "after": after,
    }  # fmt: skip
    command = [sys.executable, __file__, "--watch", json.dumps(task)]
    stop, rss = threading.Event(), 0.0
    writer = threading.Thread(target=write, args=(settings, stop, numbers))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()  # all are connected before the first message
        cpu_s, began = processor_s(pid), time.monotonic()
        writer.start()
        while time.monotonic() - began < seconds:
            time.sleep(0.2)
            rss = max(rss, rss_mb(pid))
        stop.set()
        writer.join()
        busy = (processor_s(pid) - cpu_s) / (time.monotonic() - began)
        time.sleep(ARRIVE_S)
        seen = json.loads(watching.communicate("stop\n")[0].strip().splitlines()[-1])
    for one in stalled:
        one.close()
    rows = {what: report.spread(seen[what]) | {"n": len(seen[what])} for what in ("events", "pictures") if seen[what]}
    return {**rows, "rss_mb": round(rss), "busy": round(busy, 2), "problems": seen["problems"][:3]}


def stall(port: int, key: str, after: int) -> socket.socket:
    """A client that wants pictures and takes nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(handshake(key, after))
    client.sendall(masked(b'{"type":"want","lanes":["pictures"]}'))
    return client


def floor(watchers: int) -> dict[str, float]:
    """Milliseconds until each of as many local sockets has given a picture's bytes to a reader."""
    pairs = [socket.socketpair() for _ in range(watchers)]
    taken_ms: list[float] = []
    buffer = bytearray(1 << 18)

    def read() -> None:
        with selectors.DefaultSelector() as waiting:
            left = dict.fromkeys((ours for _, ours in pairs), PICTURE_BYTES)
            for ours in left:
                waiting.register(ours, selectors.EVENT_READ)
            while len(taken_ms) < watchers:
                for key, _ in waiting.select():
                    ours = key.fileobj
                    left[ours] -= ours.recv_into(buffer)  # type: ignore[index, union-attr]
                    if left[ours] == 0:  # type: ignore[index]
                        taken_ms.append(1e3 * (time.perf_counter() - began))

    reader = threading.Thread(target=read)
    payload, began = bytes(PICTURE_BYTES), time.perf_counter()
    reader.start()
    for theirs, _ in pairs:
        theirs.sendall(payload)
    reader.join()
    for pair in pairs:
        for one in pair:
            one.close()
    return report.spread(taken_ms)


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def missed(figures: dict[str, dict[str, Any]]) -> list[str]:
    """The goals that were not reached."""
    found = []
    for name, row in figures.items():
        found += [f"{name}: {problem}" for problem in row["problems"]]
        if row["rss_mb"] > GOALS["rss_mb"]:
            found.append(f"{name}: gateway {row['rss_mb']} MB (goal {GOALS['rss_mb']:g})")
        for what in {"events", "pictures"} & row.keys():
            if row[what]["median"] > GOALS["p50"] or row[what]["p99"] > GOALS["p99"]:
                found.append(f"{name}: {what} {row[what]['median']:.0f} ms, p99 {row[what]['p99']:.0f} (goal 50, 250)")
    return found


def main() -> None:
    parser = report.parser(__doc__, whole="each phase for 30 seconds")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--watch", default="", help="for itself: the watchers' process")
    given = parser.parse_args()
    if given.watch:
        watch(json.loads(given.watch))
        return
    began = report.machine()
    seconds = 30.0 if given.whole else given.seconds
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder)) as (settings, port, pid, keys):
        figures = {
            phase.name: measured(phase, seconds, settings, port, pid, keys["viewer"], numbers) for phase in PHASES
        }
    floor_ms = floor(100)
    rows = {}
    for name, row in figures.items():
        for what in ("events", "pictures"):
            if what in row:
                rows[f"{name}: {what}"] = row[what] | ({"floor": floor_ms["median"]} if what == "pictures" else {})
    report.print_table(f"age on arrival; {PER_S} messages a second, a picture of {PICTURE_BYTES // 1000} KB each", rows)
    for name, row in figures.items():
        print(f"{name}: gateway {row['rss_mb']} MB, {100 * row['busy']:.0f} % of one processor")
    for goal in missed(figures):
        print(f"goal missed: {goal}")
    report.finish("fan_out", given, began, ["fastapi", "uvicorn", "websockets"], ms=figures, floor_ms=floor_ms)


if __name__ == "__main__":
    main()
