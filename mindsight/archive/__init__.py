"""What a session leaves: BIDS, raw and derivatives. Knows nothing of bus, blobs or network."""

from mindsight.archive.names import bids_label
from mindsight.archive.records import ArchivedAnswer, ArchivedEvent, ArchivedPlace, ArchivedRun, ArchivedSession
from mindsight.archive.write import write_archive

__all__ = [
    "ArchivedAnswer",
    "ArchivedEvent",
    "ArchivedPlace",
    "ArchivedRun",
    "ArchivedSession",
    "bids_label",
    "write_archive",
]
