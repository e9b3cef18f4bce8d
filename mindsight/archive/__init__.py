"""A closed session as BIDS data, raw and derivatives: written and read. Knows nothing of bus, blobs or network."""

from mindsight.archive.names import bids_label
from mindsight.archive.records import ArchivedEvent, ArchivedRegistration, ArchivedResult, ArchivedRun, ArchivedSession
from mindsight.archive.write.archive import write_archive

__all__ = [
    "ArchivedEvent",
    "ArchivedRegistration",
    "ArchivedResult",
    "ArchivedRun",
    "ArchivedSession",
    "bids_label",
    "write_archive",
]
