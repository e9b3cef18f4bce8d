"""Bytes of a scanner → ``Volume``. Identity stops here. Knows nothing of the network, the bus or the clock."""

from mindsight.scanner.recorded import RecordedRun, open_run
from mindsight.scanner.series import Series, open_series, read_series, read_volume

__all__ = ["RecordedRun", "Series", "open_run", "open_series", "read_series", "read_volume"]
