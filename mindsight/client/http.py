"""Requests to the gateway, with its problems as our errors and a deadline on everything.

Knows nothing of sessions or volumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx

from mindsight.errors import (
    BadRequest,
    BadVolume,
    BusUnavailable,
    Conflict,
    DeadlineExceeded,
    Diverged,
    MindsightError,
    NotAllowed,
    NotFound,
    OutOfOrder,
    ServiceUnavailable,
    StorageFull,
)

REQUEST_S = 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
_BY_CODE: dict[str, type[MindsightError]] = {OutOfOrder.code: OutOfOrder, Diverged.code: Diverged}
_BY_STATUS: dict[int, type[MindsightError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    503: BusUnavailable,
    504: DeadlineExceeded,
    507: StorageFull,
}
_RETRIED = (ServiceUnavailable, BusUnavailable)

T = TypeVar("T")


def error_of(status: int, problem: Mapping[str, Any]) -> MindsightError:
    """The error that a problem+json document speaks of."""
    code = str(problem.get("code", ServiceUnavailable.code))
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None and status < 500:
        kind = BadVolume if code.startswith("volume.") else BadRequest
    detail = str(problem.get("detail", f"the service answered with status {status}"))
    return (kind or ServiceUnavailable)(detail, code=code, **dict(problem.get("details") or {}))


class Api:
    """A gateway's REST interface with a key.

    url : address of the gateway
    patience_s : how long a service that is away, or whose bus is, is tried again; 0 never

    Raises ServiceUnavailable or BusUnavailable after that, and what the gateway answers otherwise.
    """

    def __init__(self, url: str, key: str, patience_s: float) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self.patience_s = patience_s
        self._client = httpx.Client(
            base_url=f"{self.url}/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=REQUEST_S,
            # the gateway is on this machine or in this building; a proxy from the environment is not on the way
            trust_env=False,
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def json(self, method: str, path: str, body: object = None) -> Any:
        """Send JSON (or nothing), get JSON."""
        return self._patiently(lambda: self._once(method, path, json=body))

    def send(self, method: str, path: str, payload: bytes, kind: str) -> Any:
        """Send bytes of a media type, get JSON."""
        return self._patiently(lambda: self._once(method, path, content=payload, headers={"Content-Type": kind}))

    def _once(self, method: str, path: str, **content: Any) -> Any:
        try:
            response = self._client.request(method, path, **content)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"the service at {self.url} could not be reached ({type(error).__name__}); is it running?"
            ) from None
        if response.is_success:
            return response.json()
        is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
        raise error_of(response.status_code, response.json() if is_problem else {})

    def _patiently(self, attempt: Callable[[], T]) -> T:
        until, pause_s = time.monotonic() + self.patience_s, FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except _RETRIED:
                if time.monotonic() + pause_s > until:
                    raise
            time.sleep(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
