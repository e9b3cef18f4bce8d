"""A DICOM storage service (C-STORE SCP, PS3.4 Annex B) that takes MR images and answers at once.

Knows nothing of series or volumes: an object is put into a queue as it came, and read elsewhere. Where the queue is
full the peer is told so (A700, out of resources) and may send again. Many consoles send a series only when it is over;
this is the way in where there is no better one.

pynetdicom's own log names peers and values of headers, so it is turned off.
"""

from __future__ import annotations

import itertools
import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    EnhancedMRImageStorage,
    MRImageStorage,
    Verification,
)

from mindsight.errors import BadRequest, MindsightError
from mindsight.scanner.files import MAX_DICOM_BYTES
from mindsight.scanner.transports.arrivals import Arrival
from mindsight.scanner.transports.assemble import Assembler
from mindsight.scanner.transports.contract import Clock, Expected, Patience, Trouble
from mindsight.scanner.transports.guard import guarded
from mindsight.scanner.transports.receiver import Receiver

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
MAX_PDU_BYTES = 1 << 20
HANDSHAKE_S = 3.0
CLOSE_S = 5.0
QUEUE_LENGTH = 256

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


class CStoreReceiver(Receiver):
    """The transport. It listens from when it is made.

    ae_title : what peers have to call it
    calling : AE titles that may send; any where empty
    tls : context of the server, which may ask for certificates of peers

    Raises BadRequest where the address cannot be listened on.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 11112,
        *,
        clock: Clock,
        expected: Expected | None = None,
        patience: Patience | None = None,
        run: int = 1,
        ae_title: str = "MINDSIGHT",
        calling: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        max_associations: int = 8,
        max_object_bytes: int = MAX_DICOM_BYTES,
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        patience = patience or Patience()
        assembler = Assembler(expected or Expected(), patience.late_s, run)
        super().__init__(assembler, patience, clock, queue_length=queue_length)
        self._max_object_bytes = max_object_bytes
        self._numbers = itertools.count(1)
        self._peers_lock = threading.Lock()
        self._peers: list[tuple[Any, socket.socket]] = []
        try:
            ae = AE(ae_title)
            ae.require_called_aet = True
            ae.require_calling_aet = list(calling)
        except ValueError:
            raise BadRequest("expected AE titles of 1 to 16 plain characters", code="transport.ae_title") from None
        for storage in (MRImageStorage, EnhancedMRImageStorage):
            ae.add_supported_context(storage, list(UNCOMPRESSED))
        ae.add_supported_context(Verification)
        ae.maximum_associations = max_associations
        ae.maximum_pdu_size = MAX_PDU_BYTES
        ae.acse_timeout = ae.dimse_timeout = patience.stall_s
        ae.network_timeout = patience.idle_s
        try:
            self._server: Any = ae.start_server(
                (host, port),
                block=False,
                ssl_context=None if tls is None else _ImpatientTls(tls),  # type: ignore[arg-type]  # all that is used
                evt_handlers=[(evt.EVT_C_STORE, self._stored), (evt.EVT_CONN_OPEN, self._connected)],
            )
        except OSError as error:
            raise BadRequest(f"cannot listen there: {error.strerror}", code="transport.address") from None
        self._ae = ae

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return host, port

    def close(self) -> None:
        if not self._closed.is_set():
            super().close()
            self._ae.shutdown()
            end_s = self._clock.monotonic_s() + CLOSE_S
            for assoc, _ in self._peers:
                assoc.join(max(0.0, end_s - self._clock.monotonic_s()))
            self._reap()

    def _stored(self, event: evt.Event) -> int:
        number = next(self._numbers)
        try:
            arrival = Arrival(guarded(event.encoded_dataset), self._clock.wall_s(), number)
        except MindsightError as error:
            self.put(Trouble(error.code, f"object {number}: {error}", lost=True))
            return CANNOT_UNDERSTAND
        return SUCCESS if self.offer(arrival) else OUT_OF_RESOURCES

    def _connected(self, event: evt.Event) -> None:
        """Bounds what a peer may make pynetdicom read: it takes PDUs of any size, and any number for one object."""
        peer: Any = event.assoc.dul.socket
        raw = peer.socket
        raw.settimeout(self._patience.stall_s)
        read, left = peer.recv, self._max_object_bytes

        def bounded(n_bytes: int) -> bytearray:
            nonlocal left
            left -= n_bytes
            if n_bytes > MAX_PDU_BYTES + 6 or left < 0:
                self.offer(Trouble("peer.too_large", "a peer sent more than an object may hold; disconnected"))
                raise OSError  # which pynetdicom takes for a lost connection
            received: bytearray = read(n_bytes)
            if hasattr(socket, "TCP_QUICKACK"):  # Linux; lasts for one reading
                # Senders write command and data apart and wait for the first to be acknowledged: 40 ms per object.
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return received

        def received(_: evt.Event) -> None:
            nonlocal left
            left = self._max_object_bytes

        peer.recv = bounded
        event.assoc.bind(evt.EVT_DIMSE_RECV, received)
        self._reap()
        with self._peers_lock:
            self._peers.append((event.assoc, raw))

    def _reap(self) -> None:
        """Closes the sockets that pynetdicom leaves open where the peer went away first."""
        with self._peers_lock:
            for assoc, raw in self._peers:
                if assoc.ident is not None and not assoc.is_alive():
                    raw.close()
            self._peers = [(assoc, raw) for assoc, raw in self._peers if raw.fileno() >= 0]


class _ImpatientTls:
    """A context whose handshakes end: pynetdicom shakes hands in the thread that accepts connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, sock: Any, server_side: bool) -> ssl.SSLSocket:
        sock.settimeout(HANDSHAKE_S)
        try:
            return self._context.wrap_socket(sock, server_side=server_side)
        except OSError:
            sock.close()
            raise
