"""A gateway as programs ask it: which sessions there are, and each of them. Knows nothing of scanners."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mindsight.client.http import Http
from mindsight.client.session import Session
from mindsight.shares import Report, unreported


class Service:
    """The sessions of a gateway.

    url, key : of the gateway; the key needs the scope events:read, to open or close a session sessions:control
    deadline_s : seconds for which a request is repeated while the gateway does not answer

    Every method raises ServiceUnavailable after the deadline, NotAllowed, and the gateway's own errors.
    """

    def __init__(self, url: str, key: str, *, deadline_s: float = 30.0) -> None:
        self._url, self._key = url, key
        self._http = Http(url, key, deadline_s)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions, in the order in which they were opened."""
        found: list[dict[str, Any]] = self._http.call("GET", "/v1/sessions")
        return found

    def session(self, session: str) -> dict[str, Any]:
        """What the session was opened with, its state, and its runs."""
        found: dict[str, Any] = self._http.call("GET", f"/v1/sessions/{session}")
        return found | {"runs": self._http.call("GET", f"/v1/sessions/{session}/runs")}

    def enter(self, session: str) -> Session:
        """The session as a program that waits for its results sees it; close it when done."""
        return Session(self._url, self._key, session)

    def simulate(
        self,
        *,
        runs: int = 1,
        trials: int = 30,
        speed: float = 4.0,
        seed: int = 21,
        session: str | None = None,
        close: bool = True,
    ) -> Session:
        """Run the service's simulated scanner and participant, and enter the session; returns at once.

        trials : in each run
        speed : times real time
        session : an open session to stream into; None: a simulated subject is enrolled and one is opened
        close : whether the session is closed after the last run
        """
        body = {"runs": runs, "trials": trials, "speed": speed, "seed": seed, "session": session, "close": close}
        started = self._http.call("POST", "/v1/simulations", json=body | {"job": f"sim-{secrets.token_hex(4)}"})
        return self.enter(started["session"])

    def open_session(self, subject: str, **given: Any) -> dict[str, Any]:
        """Open a session of the subject. given : of the request, as ``session`` and ``options``"""
        opened: dict[str, Any] = self._http.call("POST", "/v1/sessions", json={"subject": subject, **given})
        return opened

    def export(self, session: str, file: Path, report: Report = unreported, recipients: Sequence[str] = ()) -> None:
        """Write the archived session as a tar file, whole or not at all; ``manifest.json`` in it has every sha256.

        recipients : public keys of those who may read it (``age1...``, ``ssh-ed25519 ...``); then it is encrypted
        """
        self._http.download(f"/v1/sessions/{session}/export", file, report, recipients)

    def report(self, session: str, file: Path, report: Report = unreported) -> None:
        """Write the archived session's report, one HTML page. Raises NotFound."""
        self._http.download(f"/v1/sessions/{session}/report.html", file, report)

    def close_session(self, session: str) -> dict[str, Any]:
        """Close it: the service accepts nothing more, decodes what it has, and archives the session."""
        closed: dict[str, Any] = self._http.call("POST", f"/v1/sessions/{session}/close")
        return closed
