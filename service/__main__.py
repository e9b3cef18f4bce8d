"""``python -m service``: the gateway as a process, until SIGTERM or Ctrl-C.

Prints one line with its address, and writes it to ``<data_dir>/gateway.json`` for the tools on this machine. At the
first start it also prints one key per role, which are shown only this once.
"""

from __future__ import annotations

import argparse
import gc
import ipaddress
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from mindsight.errors import Conflict, MindsightError
from mindsight.files.durable import write_whole
from mindsight.printing import outlive_full_logs
from mindsight.processes import share_freed_memory
from mindsight.settings import Settings, read_settings
from service.app import create_app
from service.connections import BoundedConnections, allow_files
from service.keys import create_keys

GRACE_S = 3
UNACKNOWLEDGED_MS = 30_000


def main(arguments: Sequence[str] | None = None) -> int:
    share_freed_memory()  # a large request meets each of its dozens of threads in the end
    try:
        settings = read_settings()
    except MindsightError as error:
        return _refuse(error)
    parser = argparse.ArgumentParser(prog="python -m service", description="the Mindsight gateway")
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port, help="0 chooses a free port")
    given = parser.parse_args(arguments)
    settings = settings.model_copy(update={"host": given.host, "port": given.port})
    try:
        check_address(settings)
        app = create_app(settings)
        listener = listen(settings)
    except MindsightError as error:
        return _refuse(error)
    for role, key in create_keys(settings.data_dir).items():
        print(f"{role} key: {key}", flush=True)
    try:
        app = create_app(settings)
    except MindsightError as error:
        return _refuse(error)
    allow_files()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            http=BoundedConnections,
            ws="websockets-sansio",
            ws_per_message_deflate=False,  # costs ten times the processor time, for images that do not compress
            ws_max_size=64 * 1024,
            timeout_graceful_shutdown=GRACE_S,
            server_header=False,
        )
    )

    def stop(*_: object) -> None:
        """Handles signals before uvicorn does; uvicorn shuts down in order, and then raises the signal again."""
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    gc.freeze()  # what was imported lives on: looking through it for garbage held one volume of a run up for 0.15 s
    address_file = _announce(settings, listener)
    server.run(sockets=[listener])
    address_file.unlink(missing_ok=True)
    return 0


def _refuse(error: MindsightError) -> int:
    print(f"mindsight gateway: {error}", file=sys.stderr)
    return 1


def check_address(settings: Settings) -> None:
    """Raises Conflict for an address that other machines can reach without TLS: keys must not travel unencrypted."""
    try:
        loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = settings.host == "localhost"
    if not loopback and not settings.behind_proxy:
        raise Conflict(
            f"refusing to listen on {settings.host} without TLS: use 127.0.0.1, or put a TLS-terminating proxy "
            "in front and set MINDSIGHT_BEHIND_PROXY=1",
            code="gateway.address",
        )


def listen(settings: Settings) -> socket.socket:
    """The bound socket; connections wait in it until the gateway runs. Raises Conflict if the address is in use."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off (40 ms per response) only if it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # the kernel drops a silent peer; closing would wait for it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"cannot listen on {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}): use another port",
            code="gateway.address",
        ) from error
    return listener


def _announce(settings: Settings, listener: socket.socket) -> Path:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    path = settings.data_dir / "gateway.json"
    write_whole(path, json.dumps({"url": url, "pid": os.getpid()}).encode())
    print(f"mindsight gateway ready at {url}", flush=True)
    return path


if __name__ == "__main__":
    outlive_full_logs()
    sys.exit(main())
