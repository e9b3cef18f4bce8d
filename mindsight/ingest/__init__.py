"""One session's ordered way from volumes to betas, as a pure state machine.

Knows nothing of logs, workers or the wall clock: events and volumes are handed in, in order, and betas are returned.
"""

from mindsight.ingest.options import IngestOptions
from mindsight.ingest.session import IngestSession

__all__ = ["IngestOptions", "IngestSession"]
