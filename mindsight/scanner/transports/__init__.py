"""Ways in: a watched folder, DICOM C-STORE, AFNI's real-time socket, Siemens' external image sender, MRD images.

Knows nothing of where the volumes go. This folder is the only one of the scanner's room that listens on sockets and
starts threads; its clocks are passed in.
"""

from mindsight.scanner.transports.contract import (
    FAILED,
    Clock,
    Expected,
    Item,
    Patience,
    RunEnded,
    Transport,
    Trouble,
)
from mindsight.scanner.transports.opening import open_transport, planned_volumes

__all__ = [
    "FAILED",
    "Clock",
    "Expected",
    "Item",
    "Patience",
    "RunEnded",
    "Transport",
    "Trouble",
    "open_transport",
    "planned_volumes",
]
