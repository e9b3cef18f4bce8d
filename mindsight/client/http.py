"""Requests to a gateway, repeated until an answer or a deadline; its problems become our errors.

Knows nothing of sessions. A request whose answer was lost is repeated: the gateway's are idempotent, or named by a key
under which they are carried out once.
"""

from __future__ import annotations

import functools
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx

from mindsight import errors
from mindsight.errors import MindsightError, ServiceUnavailable
from mindsight.files.durable import rename_durably
from mindsight.files.encrypted import for_recipients
from mindsight.shares import Report, Shares, unreported

FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 2.0
_RUNS = "/runs/"
_AGAIN = frozenset({408, 429, 500, 502, 503, 504, 507})
_UNDERWAY = "request.underway"  # a first try whose response was lost
_BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MindsightError)
}
_BY_STATUS: dict[int, type[MindsightError]] = {
    401: errors.NotAllowed,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.Conflict,
    503: errors.ServiceUnavailable,
    507: errors.StorageFull,
}

# loading the CA certificates takes 25 ms: once per process
_certificates = functools.cache(httpx.create_ssl_context)


class Http:
    """One gateway, one key. ``deadline_s`` bounds a request with its repeats, ``timeout_s`` each attempt."""

    def __init__(self, url: str, key: str, deadline_s: float, timeout_s: float = 10.0) -> None:
        self.deadline_s = deadline_s
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 3.0)),
            verify=_certificates(),
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Http:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The response's JSON. Raises the error of the gateway's problem, ServiceUnavailable at the deadline."""
        return self._repeated(method, path, json, content, headers, as_json=True)

    def content(self, path: str) -> bytes:
        """The response's bytes. Raises as ``call``."""
        found: bytes = self._repeated("GET", path, None, None, None, as_json=False)
        return found

    def _repeated(
        self,
        method: str,
        path: str,
        json: Any,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        *,
        as_json: bool,
    ) -> Any:
        if method == "POST" and json is not None and _RUNS not in path:  # a run's requests are the same if repeated
            headers = {**(headers or {}), "Idempotency-Key": str(uuid.uuid4())}
        until = time.monotonic() + self.deadline_s
        for pause_s in pauses():
            outcome = self._try(method, path, json, content, headers, as_json)
            if not isinstance(outcome, MindsightError):
                return outcome
            if time.monotonic() + pause_s >= until:
                raise outcome
            time.sleep(pause_s)
        raise AssertionError("the pauses never end")

    def download(
        self, path: str, file: Path, report: Report = unreported, recipients: Sequence[str] = ()
    ) -> dict[str, str]:
        """Write the response's body into a new file, whole or not at all; returns its headers, in lower case.

        report : receives the share that has come, by the length that the gateway states
        recipients : public keys of those who may read the file; without any it is not encrypted

        It is not repeated. Raises the error of the gateway's problem, ServiceUnavailable; Conflict (``file.exists``);
        what ``for_recipients`` raises, before anything is asked for.
        """
        write = for_recipients(recipients) if recipients else _write
        if file.exists():
            raise errors.Conflict(f"expected a new file, {file.name} exists: name another", code="file.exists")
        partial = file.with_name(f"{file.name}.partial")
        try:
            with self._client.stream("GET", path) as answer:
                if not answer.is_success:
                    raise error_of(answer.status_code, answer.read())
                n_bytes = int(answer.headers.get("content-length") or answer.headers.get("x-folder-bytes") or 0)
                shares = Shares(report, n_bytes)
                step = f"receiving {file.name}, {n_bytes / 1e6:.0f} MB"
                with partial.open("wb") as target:
                    write(_counted(answer.iter_bytes(), lambda n: shares.add(step, n)), target)
            rename_durably(partial, file)
            return dict(answer.headers)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"lost the connection to {self._client.base_url} ({type(error).__name__}): repeat the command"
            ) from None
        finally:
            partial.unlink(missing_ok=True)

    def _try(
        self,
        method: str,
        path: str,
        body: Any,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        as_json: bool,
    ) -> MindsightError | Any:
        """The response's JSON or bytes, or an error after which a repeat may succeed. Raises other errors."""
        try:
            answer = self._client.request(method, path, json=body, content=content, headers=headers)
        except httpx.UnsupportedProtocol:
            raise errors.BadRequest(
                f"expected an address like http://HOST:PORT, got {self._client.base_url}", code="service.address"
            ) from None
        except httpx.TransportError as error:
            return ServiceUnavailable(
                f"expected a gateway at {self._client.base_url}, could not reach one ({type(error).__name__}): check"
                " that it runs"
            )
        if answer.is_success and not as_json:
            return answer.content
        if answer.is_success:
            try:
                return answer.json() if answer.content else None
            except ValueError:
                return _no_gateway(self._client.base_url)
        refusal = error_of(answer.status_code, answer.content)
        if answer.status_code not in _AGAIN and refusal.code != _UNDERWAY:
            raise refusal
        return refusal


def _write(pieces: Iterator[bytes], target: IO[bytes]) -> None:
    target.writelines(pieces)


def _counted(pieces: Iterator[bytes], count: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        count(len(piece))


def pauses() -> Iterator[float]:
    """Growing pauses between attempts, with random jitter, so that many clients do not return at once."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
        pause_s = min(2 * pause_s, LAST_PAUSE_S)


def error_of(status: int, content: bytes | bytearray | None) -> MindsightError:
    """The error for a problem (RFC 9457) of the gateway."""
    try:
        problem = json.loads(content or b"")
        code, detail, details = problem["code"], problem["detail"], problem.get("details", {})
    except (ValueError, KeyError, TypeError):
        return ServiceUnavailable(
            f"expected an answer of a Mindsight gateway, got status {status}; check the address", status=status
        )
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = errors.BadVolume if str(code).startswith("volume.") else errors.BadRequest
    return kind(detail, code=code, **details)


def _no_gateway(url: httpx.URL) -> ServiceUnavailable:
    return ServiceUnavailable(f"expected JSON from {url}, got something else; check that it is a Mindsight gateway")
