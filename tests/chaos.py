"""``make chaos``: processes of a service are killed, paused and starved while sessions stream; what was found, as JSON.

``python tests/chaos.py --blows 200 --sessions 4 --seed 7``
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import mindsight  # noqa: F401 - first of all: makes torchvision importable
from support.chaos import Found, Plan, campaign
from support.fail_points import every_point, try_points
from support.ports import free_port
from support.zombies import try_zombies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--blows", type=int, default=200, help="kills, restarts, pauses, starvation (default 200)")
    parser.add_argument("--sessions", type=int, default=4, help="that stream at once (default 4)")
    parser.add_argument("--every", type=float, help="seconds between two blows (default 1 to 3); 10 to see recoveries")
    parser.add_argument("--fail-points", action="store_true", help="instead: each durable step fails once, in each way")
    parser.add_argument("--zombies", type=int, metavar="N", help="instead: so many workers' sessions taken over")
    parser.add_argument("--seed", type=int, default=1, help="decides which process, when and how (default 1)")
    given = parser.parse_args()
    started_s = time.monotonic()
    if given.fail_points:
        return _fail_points()
    with tempfile.TemporaryDirectory() as folder:
        if given.zombies is not None:
            found = try_zombies(Path(folder), given.zombies, given.sessions, free_port())
            return _told(found, started_s)
        every_s = (1.0, 3.0) if given.every is None else (given.every, given.every)
        plan = Plan(seed=given.seed, n_blows=given.blows, n_sessions=given.sessions, every_s=every_s)
        found = campaign(Path(folder), plan, free_port())
    return _told(found, started_s, seed=given.seed)


def _told(found: Found, started_s: float, **given: int) -> int:
    print(json.dumps({**given, "took_s": round(time.monotonic() - started_s), **found.summary()}, indent=1))
    for fault in found.faults:
        print(fault, file=sys.stderr)
    return 1 if found.faults else 0


def _fail_points() -> int:
    points = every_point()
    with tempfile.TemporaryDirectory() as folder:
        faults, unreached = try_points(Path(folder), points, free_port())
    print(json.dumps({"points": len(points), "not_reached": unreached, "faults": len(faults)}, indent=1))
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults or unreached else 0


if __name__ == "__main__":
    sys.exit(main())
