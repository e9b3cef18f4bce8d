"""``python deploy/licences.py``: writes ``docs/licences.md``, the licence of every package that is installed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "licences.md"
HEAD = """# Licences

Mindsight is under Apache-2.0. What an install for development holds, as each package states it (written by
`make licences`); `deploy/locks/` says which of them another install brings. Weights have licences of their own, which
`docs/unclip.md` and `docs/mindeye.md` name.

| package | version | licence |
|---|---|---|
"""


def main() -> int:
    command = [sys.executable, "-m", "piplicenses", "--format", "json", "--from", "mixed", "--order", "name"]
    packages = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rows = [
        f"| {one['Name']} | {one['Version'].partition('+')[0]} | {one['License'].replace('|', '/')} |"
        for one in packages
        if one["Name"] != "mindsight"
    ]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n")
    print(f"{len(rows)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
