"""Where the gateway on this machine listens. Knows nothing of the processes behind it."""

from __future__ import annotations

import json
from pathlib import Path

from mindsight.errors import ServiceUnavailable


def gateway_url(data_dir: Path) -> str:
    """The address that the gateway has written into its data folder. Raises ServiceUnavailable without one."""
    try:
        return str(json.loads((data_dir / "gateway.json").read_text())["url"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or what a power loss left of one
        raise ServiceUnavailable(
            "no service runs on this data folder: start one with `mindsight serve`, or name its address with --to"
        ) from None
