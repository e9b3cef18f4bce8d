"""What a machine must have for any of Mindsight: disk, clock, a port, keys, folders that are set. Writes a probe only.

Each function returns what it found, as ``Noted`` if somebody should look at it, and raises with what to do.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import sys
import time
from pathlib import Path

from mindsight.errors import BadRequest, Conflict
from mindsight.files.stored import read_stored
from mindsight.settings import PREFIX, Settings, config_file

MIN_FREE_GB = 5.0
SLOW_DISK_MS = 250.0  # for a volume: half of a short TR
VOLUME_BYTES = 2 * 1024 * 1024
CLOCK_S = 2.0
_FOLDERS = ("generator_dir", "captions_dir", "refiner_dir", "backbone_dir", "encoder_weights")
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


class Noted(str):
    """A finding that stops nothing, and that somebody should know."""


def configuration() -> str:
    path = config_file()
    return "defaults and the environment; mindsight init writes a file of settings" if path is None else str(path)


def disk(settings: Settings) -> str:
    """Free space, the time for a volume to be durable, and whether others may look in."""
    folder = settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    began_s = time.perf_counter()
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_SYNC, 0o600)
    try:
        os.write(descriptor, bytes(VOLUME_BYTES))
        took_ms = 1000.0 * (time.perf_counter() - began_s)
        apart_s = abs(os.fstat(descriptor).st_mtime - time.time())
    finally:
        os.close(descriptor)
        probe.unlink()
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < MIN_FREE_GB:
        raise RuntimeError(
            f"expected {MIN_FREE_GB:.0f} GB free for a session, got {free_gb:.1f}: free some, or set MINDSIGHT_DATA_DIR"
        )
    found = f"{folder}, {free_gb:.0f} GB free, a volume of 2 MB is durable in {took_ms:.0f} ms"
    if took_ms > SLOW_DISK_MS:
        return Noted(f"{found}: slow for a scan; set MINDSIGHT_DATA_DIR to a local disk")
    if apart_s > CLOCK_S:
        return Noted(f"{found}; its server's clock differs by {apart_s:.0f} s: synchronise both")
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return Noted(f"{found}; others may look into it: chmod 700 {folder}, unless that is meant")
    return found


def clock() -> str:
    """Whether something keeps this machine's clock right: latencies compare it with the scanner's."""
    if sys.platform != "linux":
        return "not checked on this system: have it synchronised"
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))  # modes = 0: reads only
    if state == _UNSYNCHRONISED:
        return Noted("not synchronised: times of scanner and service cannot be compared; start chrony or timesyncd")
    return "synchronised" if state >= 0 else "cannot be asked here; the host keeps it"


def port(settings: Settings) -> str:
    """Whether the gateway can listen. Raises Conflict if another program does."""
    address = f"{settings.host}:{settings.port}"
    if (running := _running(settings)) is not None:
        return f"the service runs at {running}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                f"expected {address} to be free, got {os.strerror(error.errno or 0).lower()}: stop what listens there,"
                " or set MINDSIGHT_PORT (and MINDSIGHT_HOST) to another"
            ) from None
    return f"{address} is free"


def keys(settings: Settings) -> str:
    """Which keys there are, and whether others can read their digests."""
    path = settings.data_dir / "keys.json"
    if not path.exists():
        return "none yet: the first mindsight serve makes one per role, and prints them once"
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise RuntimeError(f"expected keys that only this user reads, others may: chmod 600 {path}")
    roles = read_stored(path, lambda content: [str(key["role"]) for key in json.loads(content)], "keys")
    if "admin" not in roles:
        return Noted(f"{_counted(roles)}, and none of an admin: mindsight key new admin")
    return f"{_counted(roles)} (mindsight key list)"


def folders(settings: Settings) -> str:
    """Raises BadRequest that names the first setting whose folder or file is not there."""
    named = [name for name in _FOLDERS if getattr(settings, name) is not None]
    for name in named:
        path: Path = getattr(settings, name)
        if not path.exists():
            raise BadRequest(
                f"expected {PREFIX}{name.upper()} to exist, got none at {path.absolute()}: correct it, or unset it",
                code="settings.folder",
            )
    return ", ".join(named) or "none set: the models that ship are used"


def _counted(roles: list[str]) -> str:
    return ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles)) or "none"


def _running(settings: Settings) -> str | None:
    """The address of the service on this data folder, if it answers."""
    import httpx

    path = settings.data_dir / "gateway.json"
    try:
        url = str(json.loads(path.read_text())["url"])
        answer = httpx.get(f"{url}/v1/health", timeout=2.0)
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return f"{url}, version {answer.json()['version']}" if answer.status_code == httpx.codes.OK else None
