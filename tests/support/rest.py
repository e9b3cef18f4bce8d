"""What the tests of the routes ask of a response and of the logs behind it."""

from __future__ import annotations

import httpx

from mindsight.bus import Bus
from mindsight.journal.read import Journal, entries


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found: dict[str, object] = answer.json()
    assert (found["code"], found["status"]) == (code, status), found
    return found


def put(client: httpx.Client, session: str, index: int, payload: bytes, run: int = 1, **headers: str) -> httpx.Response:
    return client.put(f"/v1/sessions/{session}/runs/{run}/volumes/{index}", content=payload, headers=headers)


def inputs(bus: Bus, session: str) -> list[str]:
    return [entry.key for entry in entries(Journal(bus, session).inputs)]


def messages(bus: Bus, session: str) -> list[str]:
    return [entry.key for entry in entries(Journal(bus, session).messages)]
