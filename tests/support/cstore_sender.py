"""A C-STORE sender."""

from __future__ import annotations

import contextlib
import socket
import warnings
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, EnhancedMRImageStorage, MRImageStorage, Verification

from mindsight.scanner.transports.cstore import CStoreReceiver
from support.taking import (
    CLOCK,
    SHORT_TIMEOUTS,
)


def receiver(**options: Any) -> CStoreReceiver:
    return CStoreReceiver(port=0, clock=CLOCK, **{"timeouts": SHORT_TIMEOUTS, **options})


@contextlib.contextmanager
def association(
    transport: CStoreReceiver, *, called: str = "MINDSIGHT", calling: str = "SCANNER", **options: Any
) -> Any:
    ae = AE(calling)
    for storage in (MRImageStorage, EnhancedMRImageStorage, Verification, CTImageStorage):
        ae.add_requested_context(storage)
    ae.acse_timeout = ae.dimse_timeout = 10
    sockets: list[socket.socket] = []
    opened = [(evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket))]
    peer = ae.associate(*transport.address, ae_title=called, evt_handlers=opened, **options)
    try:
        yield peer
    finally:
        if peer.is_established:
            peer.release()
        for one in sockets:
            one.close()  # which pynetdicom leaves out where the other side went away first


def dataset(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path)


def store(peer: Any, path: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(peer.send_c_store(dataset(path)).Status)
