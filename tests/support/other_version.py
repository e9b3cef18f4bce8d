"""What another version of Mindsight leaves on the bus, as after an update that was taken back."""

from __future__ import annotations

import json
from typing import Literal

from mindsight.bus import Bus


def of_another_version(bus: Bus, kind: Literal["sessions", "jobs"], name: str) -> None:
    """Give a record in a list a field that this version does not know."""
    records = f"{kind}:{{all}}:records"
    record = json.loads(bus.command("HGET", records, name))
    bus.command("HSET", records, name, json.dumps({**record, "of_tomorrow": 1}))
