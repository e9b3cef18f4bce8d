"""``Watch``: everything that happens in a session, from any message on, each once, across broken connections.

Knows nothing of what the messages mean.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import TracebackType

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mindsight.client.http import FIRST_PAUSE_S, LONGEST_PAUSE_S, error_of
from mindsight.errors import MindsightError, ServiceUnavailable
from mindsight.protocol import Message, parse_message

PATIENCE_S = 60.0
SILENCE_S = 10.0  # the gateway says something every two seconds
CONNECT_S = 10.0
_REVOKED = 4401


class Watch:
    """An iterator of typed messages, without an end of its own; a context manager.

    url, key : of the gateway; without the scope ``truth:read`` what was shown is left out
    after : id of the last message that is known already; 0 for all
    patience_s : how long a service that is away is tried again before ServiceUnavailable is raised

    ``after`` moves on with every message, so that it can be kept and handed to another ``Watch``. Raises NotAllowed and
    NotFound as the gateway says.
    """

    def __init__(self, url: str, key: str, session: str, after: int = 0, patience_s: float = PATIENCE_S) -> None:
        self.after = after
        self._url = f"{url.rstrip('/').replace('http', 'ws', 1)}/v1/sessions/{session}/stream"
        self._key = key
        self._patience_s = patience_s
        self._connection: ClientConnection | None = None
        self._closed = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def __iter__(self) -> Iterator[Message]:
        until, pause_s = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while not self._closed:
            try:
                with self._connect() as connection:
                    self._connection = connection
                    while True:
                        text = connection.recv(timeout=SILENCE_S)
                        until, pause_s = time.monotonic() + self._patience_s, FIRST_PAUSE_S
                        message = self._take(text)
                        if message is not None:
                            yield message
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code == _REVOKED:
                    raise error_of(401, {"code": "auth.key", "detail": "the key was revoked"}) from None
            except InvalidStatus as refused:
                error = _refusal(refused)
                if error.http_status != ServiceUnavailable.http_status:
                    raise error from None
            except (OSError, InvalidHandshake, EOFError):  # TimeoutError, which is silence, is an OSError
                pass
            finally:
                self._connection = None
            if self._closed:
                return
            if time.monotonic() + pause_s > until:
                raise ServiceUnavailable(f"no message stream within {self._patience_s:g} s; is the service running?")
            time.sleep(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    def _connect(self) -> ClientConnection:
        return connect(
            f"{self._url}?after={self.after}",
            additional_headers={"Authorization": f"Bearer {self._key}"},
            open_timeout=CONNECT_S,
            close_timeout=1.0,
            compression=None,
            proxy=None,
        )

    def _take(self, text: str | bytes) -> Message | None:
        """The message, unless it is a tick or was seen before."""
        if json.loads(text).get("type") == "tick":
            return None
        message = parse_message(text)
        if message.id <= self.after:
            return None
        self.after = message.id
        return message


def _refusal(refused: InvalidStatus) -> MindsightError:
    response = refused.response
    try:
        problem = json.loads(response.body or b"{}")
    except ValueError:
        problem = {}
    return error_of(response.status_code, problem if isinstance(problem, dict) else {})
