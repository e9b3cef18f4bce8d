"""Where the gateway on this machine listens. Knows nothing of the processes behind it."""

from __future__ import annotations

import json
from pathlib import Path

from mindsight.errors import ServiceUnavailable


def gateway_url(data_dir: Path) -> str:
    """The address that the gateway has written into its data folder. Raises ServiceUnavailable without one."""
    path = data_dir / "gateway.json"
    if not path.exists():
        raise ServiceUnavailable(
            "no service runs on this data folder: start one with `mindsight serve`, or name its address with --to"
        )
    return str(json.loads(path.read_text())["url"])
