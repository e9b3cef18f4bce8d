"""Bytes of a scanner → ``Volume``. Identity stops here. Knows nothing of the network, the bus or the clock.

The names here are imported when they are asked for: readers of files take a quarter of a second, which a worker that
reads none does not wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindsight.scanner.recording import RecordedRun, open_run
    from mindsight.scanner.series import Series, open_series, read_series, read_volume

__all__ = ["RecordedRun", "Series", "open_run", "open_series", "read_series", "read_volume"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "recording" if name in ("RecordedRun", "open_run") else "series"
    return getattr(import_module(f"{__name__}.{module}"), name)
