"""``make fuzz``: many changed inputs through every reader; each finding is a line with the number of its try.

``python tests/fuzz.py --n 1000000 --readers nifti``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import mindsight  # noqa: F401 - first of all: makes torchvision importable
from support.fuzz.campaign import run
from support.fuzz.readers import every_reader

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--n", type=int, default=1_000_000, help="tries of each reader (default 1,000,000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first try (default 0)")
    parser.add_argument("--readers", nargs="+", help="only these (default: all)")
    given = parser.parse_args()
    n_findings = 0
    with tempfile.TemporaryDirectory() as folder:
        readers = every_reader(Path(folder), DATA if DATA.is_dir() else None)
        if unknown := set(given.readers or ()) - set(readers):
            parser.error(f"expected readers of {', '.join(readers)}, got {', '.join(sorted(unknown))}")
        for name in given.readers or readers:
            started_s = time.process_time()
            found = run(name, readers[name], range(given.first, given.first + given.n))
            ms = 1e3 * (time.process_time() - started_s) / found.n
            print(
                f"{name}: {found.n} tries, {found.n_refused} refused, {len(found.findings)} findings, {ms:.2f} ms each"
            )
            print("".join(f"  {line}\n" for line in found.findings), end="", flush=True)
            n_findings += len(found.findings)
    return 1 if n_findings else 0


if __name__ == "__main__":
    sys.exit(main())
