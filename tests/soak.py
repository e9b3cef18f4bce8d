"""``make soak``: consoles scan for hours, one visit after another; fails if memory, files or bus grow.

``python tests/soak.py --minutes 240 --sessions 8 --speed 10``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import mindsight  # noqa: F401 - first of all: makes torchvision importable
from support.ports import free_port
from support.soak import HOUR, LIMIT_PER_H, n_rests, soak, warm_up


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10; 240 to be sure)")
    parser.add_argument("--sessions", type=int, default=8, help="that are scanned at once (default 8)")
    parser.add_argument("--speed", type=float, default=10.0, help="times as fast as a scanner, at most (default 10)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), given.minutes, given.sessions, given.speed, free_port())
    print(f"{found.n_visits} visits in {given.minutes:g} minutes")
    print(f"at {n_rests(given.minutes)} rests, the first after {warm_up(given.minutes):.1f} minutes:")
    print(f"{'':36}{'at the end':>12}{'per hour':>12}   95 % interval")
    for name, slope in found.slopes().items():
        print(f"{name:36}{slope.last:12.1f}{slope.per_h:12.2f}   {slope.low:.2f} to {slope.high:.2f}")
    if given.minutes < HOUR:
        limits = ", ".join(f"{limit:g} {unit}" for unit, limit in LIMIT_PER_H.items())
        print(f"{given.minutes:g} minutes show only what grows much faster than the limits ({limits} per hour)")
    for fault in found.faults:
        print(fault, file=sys.stderr)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
