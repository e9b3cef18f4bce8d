"""What comes before a request: connections that ask for nothing, hosts that are others', bodies with two ends."""

from __future__ import annotations

import contextlib
import json
import socket
from urllib.parse import urlsplit

import pytest

from service import connections
from support.gateway_harness import Running


def connect(running: Running) -> socket.socket:
    address = urlsplit(running.url)
    return socket.create_connection((address.hostname, address.port), timeout=6 * connections.REQUEST_S)


def exchanged(running: Running, request: bytes) -> tuple[int, dict[str, object]]:
    with connect(running) as client:
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_connection_that_asks_for_nothing_is_closed_and_others_are_served_meanwhile(running: Running) -> None:
    with contextlib.ExitStack() as open_connections:
        silent, slow, kept = (open_connections.enter_context(connect(running)) for _ in range(3))
        slow.sendall(b"GET /v1/health HTTP/1.1\r\nHost: loc")
        kept.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += kept.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        kept.sendall(b"GET /v1/he")  # the second request of a connection has a deadline, too
        with running.client(None) as client:
            assert client.get("/v1/health").status_code == 200
        for connection in (silent, slow, kept):  # each read fails after six times what they have
            assert connection.recv(65536) == b""


def test_more_connections_than_files_leave_the_gateway_running(running: Running) -> None:
    with contextlib.ExitStack() as open_connections:
        for _ in range(300):
            open_connections.enter_context(connect(running))
        with running.client(None) as client:
            assert client.get("/v1/health").status_code == 200
    assert connections.max_connections() > 300


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]", 200), ("evil.example", 422), ("", 422), ("[", 422)],
)
def test_a_page_cannot_reach_it_under_a_name_of_its_own(running: Running, host: str, status: int) -> None:
    answered, problem = exchanged(
        running, f"GET /v1/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answered == status
    if status != 200:
        assert problem["code"] == "request.host"


def test_a_body_with_two_lengths_is_refused(running: Running) -> None:
    request = (
        b"POST /v1/subjects HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\n0\r\n\r\n"
    )
    status, problem = exchanged(running, request)
    assert (status, problem["code"]) == (422, "request.framing")
