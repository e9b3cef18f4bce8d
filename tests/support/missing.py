"""What was not tested, since this machine lacks what the test needs: counted, with what to install."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# What a skipped test needs, as in its reason, and how to get it.
_TO_INSTALL = {
    "../shared": "put the real data beside the checkout",
    "chromium": "apt install chromium",
    "dcmtk": "apt install dcmtk",
    "moto": "make bucket",
    "node": "apt install nodejs",
}


def missing_line(reasons: Iterable[str]) -> str | None:
    """How many tests were skipped for what this machine lacks, and what to install; None if nothing is lacking."""
    counted = Counter(name for reason in reasons for name in _TO_INSTALL if "needs" in reason and name in reason)
    if not counted:
        return None
    parts = [f"{n} without {name} ({_TO_INSTALL[name]})" for name, n in sorted(counted.items())]
    return f"{counted.total()} tests were skipped for what is not here: {', '.join(parts)}"
