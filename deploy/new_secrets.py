"""``python deploy/new_secrets.py``: a new password between the containers and their bus, into ``deploy/secrets/``."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"


def main(folder: Path = FOLDER) -> int:
    if folder.exists():
        print(f"{folder.name} is there already: remove it first, with the service stopped", file=sys.stderr)
        return 1
    folder.mkdir(mode=0o700)  # on the host nobody else looks in; inside, the containers' user reads the files
    password = secrets.token_urlsafe(32)
    files = {"bus.conf": f"requirepass {password}\n", "mindsight_redis_url": f"redis://:{password}@bus:6379/0"}
    for name, content in files.items():
        with os.fdopen(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444), "w") as file:
            file.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
