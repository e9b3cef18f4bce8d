"""Transports: a watched folder, DICOM C-STORE, AFNI's real-time socket, Siemens' external image sender, MRD images.

Knows nothing of where the volumes go. Only this folder of the scanner's room listens on sockets and starts threads; its
clocks are passed in.
"""

from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.assembly.items import Item, RunEnded, TransportWarning, Trouble
from mindsight.scanner.transports.contract import FAILED, Clock, Patience, Timeouts, Transport
from mindsight.scanner.transports.opening import open_transport, planned_volumes

__all__ = [
    "FAILED",
    "Clock",
    "Expected",
    "Item",
    "Patience",
    "RunEnded",
    "Timeouts",
    "Transport",
    "TransportWarning",
    "Trouble",
    "open_transport",
    "planned_volumes",
]
