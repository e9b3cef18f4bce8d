"""``python deploy/audit.py``: published faults of the locked versions, where the database of advisories can be reached.

Ends with 1 if one is found. Without the database nothing is known, and that is what it prints.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).resolve().parent / "locks"
DEADLINE_S = 300


def main() -> int:
    n_faults = 0
    for lock in sorted(LOCKS.glob("*.txt")):
        command = ["pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "-f", "json"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", *command, "-r", str(lock)], capture_output=True, text=True, timeout=DEADLINE_S
            )
            found = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            print(f"{lock.stem}: not audited: the database of advisories did not answer")
            continue
        audited = [one for one in found if "skip_reason" not in one]
        faults = [(one["name"], one["version"], fault) for one in audited for fault in one["vulns"]]
        print(f"{lock.stem}: {len(faults)} faults in {len(audited)} packages; {len(found) - len(audited)} not audited")
        for name, version, fault in faults:
            fixed = ", ".join(fault["fix_versions"]) or "no version"
            print(f"  {name} {version}: {fault['id']}, mended in {fixed}")
        n_faults += len(faults)
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
