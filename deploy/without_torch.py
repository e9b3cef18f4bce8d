"""``python without_torch.py versions|rest LOCK``: a lock in two parts, for a torch of another index.

``versions`` prints torch's own packages as pins; ``rest`` everything else but what a build for a card brings with it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TORCHS = {"torch", "torchvision"}
OF_A_CARD = re.compile(r"nvidia-|cuda-|triton$")


def entries(lock: str) -> list[str]:
    """Pins with their digests."""
    return [entry for entry in re.split(r"\n(?=[A-Za-z0-9])", lock) if "==" in entry.partition("\n")[0]]


def main(part: str, lock: Path) -> int:
    for entry in entries(lock.read_text()):
        name, _, version = entry.partition("==")
        if part == "versions" and name in TORCHS:
            print(f"{name}=={re.split(r'[ ;]', version, maxsplit=1)[0]}")
        if part == "rest" and name not in TORCHS and not OF_A_CARD.match(name):
            print(entry)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
