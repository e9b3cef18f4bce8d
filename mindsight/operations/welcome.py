"""What a gateway prints when it starts, heard by the program that started it; and how that is told to a person.

Knows nothing of processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from service.keys import PURPOSES

HEARD_S = 10.0


class Heard:
    """Takes the gateway's lines (``Supervisor.announce``): one key per role at a data folder's first start, then its
    address.
    """

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._is_ready = threading.Event()

    def __call__(self, line: str) -> None:
        role, is_key, key = line.partition(" key: ")
        if is_key:
            self._keys[role] = key
        elif " ready at " in line:  # it comes after the keys
            self._is_ready.set()

    def keys(self) -> dict[str, str]:
        """Role -> key; empty unless this was the first start. The lines may come a moment after the service is up."""
        self._is_ready.wait(HEARD_S)
        return dict(self._keys)


def dashboard(url: str, key: str, session: str | None = None) -> str:
    """An address that opens the dashboard: the key is in the fragment, which no browser sends or logs."""
    return f"{url}/#key={key}" + ("" if session is None else f"&session={session}")


def welcome(url: str, keys: dict[str, str]) -> Iterator[str]:
    """Lines for the person who started the service: the keys that were made, what each is for, and one to click."""
    if not keys:
        yield f"Dashboard: {url}/  (it asks for a key: one of those shown at the first start, or a new one:"
        yield "           mindsight key new experimenter)"
        return
    yield "Keys, shown only this once (mindsight key new makes others, mindsight key revoke ends one):"
    for role, key in keys.items():
        yield f"  {role:<12}  {key}"
        yield f"  {'':<12}  {PURPOSES.get(role, '')}"  # type: ignore[call-overload]
    if "experimenter" in keys:
        yield f"Dashboard, as experimenter: {dashboard(url, keys['experimenter'])}"
