"""A request whose answer was lost."""

from __future__ import annotations

import socket
import threading

from mindsight.client.http import Http


def test_a_repeat_carries_the_key_of_the_first_so_that_it_is_done_once() -> None:
    """A gateway that takes the request, and whose first answer never comes."""
    keys: list[str] = []

    def serve(listener: socket.socket) -> None:
        for answer in (b"", b'HTTP/1.1 201 Created\r\nContent-Length: 22\r\n\r\n{"subject":"sub-abcd"}'):
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536).decode().lower()
                keys.extend(line.partition(": ")[2] for line in request.splitlines() if line.startswith("idempotency"))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with Http(f"http://127.0.0.1:{listener.getsockname()[1]}", "ms_x", 20.0) as http:
            assert http.call("POST", "/v1/subjects", json={}) == {"subject": "sub-abcd"}
        thread.join(10.0)
    assert len(keys) == 2
    assert keys[0] == keys[1] != ""
