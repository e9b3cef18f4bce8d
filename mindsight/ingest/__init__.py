"""One session's ordered way from volumes to betas, as a pure state machine.

Knows nothing of logs, workers or the wall clock: what happened is handed in, in order, and what follows comes back.
"""

from mindsight.ingest.placement import Placement
from mindsight.ingest.records import IngestOptions, IngestState, Space, TrialBeta, VolumeOutput, VolumeReport
from mindsight.ingest.repeats import Repeats
from mindsight.ingest.session import IngestSession

__all__ = [
    "IngestOptions",
    "IngestSession",
    "IngestState",
    "Placement",
    "Repeats",
    "Space",
    "TrialBeta",
    "VolumeOutput",
    "VolumeReport",
]
