"""A session's messages, as an iterator that survives disconnects. Knows nothing of decoding."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mindsight.client.http import error_of, pauses
from mindsight.errors import ServiceUnavailable
from mindsight.protocol import Message, parse_message
from mindsight.protocol.stream import Tick

OPEN_S = 5.0
CLOSE_S = 0.2  # messages still in transit are dropped
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class Watch:
    """The messages of one session after number ``after``, each once and in order; waits for new ones.

    url, key : of the gateway; the key needs the scope events:read
    until : the type of the message after which the iterator ends
    silence_s : seconds without a message or tick after which it reconnects
    deadline_s : seconds without an answer after which it gives up
    on_tick : called, where the messages are iterated, with each tick of the service

    Iterating raises ServiceUnavailable after the deadline, NotAllowed, and NotFound for an unknown session.
    The attribute ``after`` is the number of the last message received; a new Watch may start from it.
    """

    def __init__(
        self,
        url: str,
        key: str,
        session: str,
        after: int = 0,
        *,
        until: str = "session.archived",
        silence_s: float = 10.0,
        deadline_s: float = 30.0,
        on_tick: Callable[[Tick], None] | None = None,
    ) -> None:
        self.after = after
        self._address = f"ws{url.removeprefix('http').rstrip('/')}/v1/sessions/{session}/stream"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._until = until
        self._silence_s = silence_s
        self._deadline_s = deadline_s
        self._on_tick = on_tick
        self._closed = threading.Event()
        self._socket: ClientConnection | None = None

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed.set()
        if self._socket is not None:
            self._socket.close()

    def __iter__(self) -> Iterator[Message]:
        waits = pauses()
        alive_at = time.monotonic()
        while not self._closed.is_set():
            try:
                with connect(
                    f"{self._address}?after={self.after}",
                    additional_headers=self._headers,
                    open_timeout=OPEN_S,
                    close_timeout=CLOSE_S,
                    max_size=MAX_MESSAGE_BYTES,
                ) as socket:
                    self._socket = socket
                    while True:
                        text = socket.recv(timeout=self._silence_s)
                        alive_at = time.monotonic()
                        waits = pauses()
                        message = read_frame(text)
                        if isinstance(message, Tick):
                            if self._on_tick is not None:
                                self._on_tick(message)
                            continue
                        if message.id != self.after + 1:
                            raise ServiceUnavailable(
                                f"expected message {self.after + 1}, got {message.id}: the gateway skipped some; watch"
                                f" again with after={self.after}"
                            )
                        self.after = message.id
                        yield message
                        if message.type == self._until:
                            return
                        alive_at = time.monotonic()  # time spent by the consumer does not count as silence
            except InvalidStatus as error:
                refusal = error_of(error.response.status_code, error.response.body)
                if error.response.status_code < 500:
                    raise refusal from None
                reason = str(refusal)
            except (OSError, InvalidHandshake, ConnectionClosed, EOFError) as error:  # TimeoutError is an OSError
                reason = type(error).__name__
            finally:
                self._socket = None
            if time.monotonic() - alive_at > self._deadline_s:
                raise ServiceUnavailable(f"the gateway did not answer for {self._deadline_s:g} s ({reason})")
            self._closed.wait(next(waits))


def read_frame(text: str | bytes) -> Message | Tick:
    """A message of the session, or a tick. Raises ServiceUnavailable for anything else."""
    try:
        return Tick.model_validate_json(text) if json.loads(text).get("type") == "tick" else parse_message(text)
    except (ValueError, AttributeError, ValidationError):
        raise ServiceUnavailable(
            "expected a message of this version's protocol, got something else; update this client"
        ) from None
