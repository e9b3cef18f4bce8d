"""A DICOM storage service (C-STORE SCP, PS3.4 Annex B) that takes MR images and answers at once.

Knows nothing of series or volumes. An object is de-identified, written to the disk if there is a folder for it
(``object_spool.py``), queued, and only then acknowledged: acknowledged objects survive a kill. If the queue or the disk
is full, the peer gets A700 (out of resources) and may send again. An unreadable object is answered with a warning
(B007): success would hide it, and a failure would stop the sender. Many consoles send a series only when it is over, so
this is the transport of last resort.

pynetdicom's own log names peers and header values, so it is turned off.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    Verification,
)
from typing_extensions import Unpack

from mindsight.errors import BadRequest, MindsightError, StorageFull
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.formats.dicom_header import read_dicom
from mindsight.scanner.formats.files import MAX_DICOM_BYTES
from mindsight.scanner.guard import guarded
from mindsight.scanner.transports.contract import Timeouts
from mindsight.scanner.transports.object_spool import Kept, ObjectSpool
from mindsight.scanner.transports.receiver import Receiver, ReceiverOptions
from mindsight.scanner.transports.turned_away import TurnedAway

SUCCESS, OUT_OF_RESOURCES, NOT_AS_IT_SHOULD_BE = 0x0000, 0xA700, 0xB007
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5")  # the last is RLE, if nothing else is
IMAGES = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
MAX_PDU_BYTES = 1 << 20
HANDSHAKE_S = 3.0
CLOSE_S = 5.0
QUEUE_LENGTH = 256
BACKLOG = 64

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


class CStoreReceiver(Receiver):
    """The transport. It listens from its construction.

    ae_title : the title that peers must call
    calling : AE titles that may send; any if empty
    tls : context of the server, which may ask peers for certificates
    spool : folder for acknowledged objects until their run has ended; without one they are in memory only

    Raises BadRequest if it cannot listen on the address, or cannot write to the folder.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 11112,
        *,
        ae_title: str = "MINDSIGHT",
        calling: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        spool: Path | None = None,
        max_associations: int = 8,
        max_object_bytes: int = MAX_DICOM_BYTES,
        queue_length: int = QUEUE_LENGTH,
        **options: Unpack[ReceiverOptions],
    ) -> None:
        super().__init__(queue_length=queue_length, **options)
        self._max_object_bytes = max_object_bytes
        try:
            self._spool = None if spool is None else ObjectSpool(spool, self._clock.monotonic_s)
        except OSError as error:
            text = f"cannot keep objects on the disk: {error.strerror}; name a folder that can be written to"
            raise BadRequest(text, code="transport.spool") from None
        self._numbers = itertools.count(1 if self._spool is None else self._spool.last + 1)
        self._storing = threading.Lock()
        self._n_dealt_with = 0
        self._calling = tuple(calling)
        self._by_tls = tls is not None
        self._turned_away = TurnedAway(self.offer, ae_title.strip(), [str(image) for image in IMAGES])
        self._peers_lock = threading.Lock()
        self._peers: list[tuple[Any, socket.socket]] = []
        self._ae = _application_entity(ae_title, calling, self._timeouts)
        self._ae.maximum_associations = max_associations
        self._server = self._started(host, port, tls)

    def _started(self, host: str, port: int, tls: ssl.SSLContext | None) -> Any:
        """The server, listening. Raises BadRequest."""
        try:
            server: Any = self._ae.start_server(
                (host, port),
                block=False,
                ssl_context=None if tls is None else _ImpatientTls(tls, self._turned_away),  # type: ignore[arg-type]  # all that is used
                evt_handlers=[
                    (evt.EVT_C_STORE, self._stored),
                    (evt.EVT_CONN_OPEN, self._connected),
                    (evt.EVT_ACCEPTED, lambda event: self._turned_away.accepted(event.assoc)),
                    (evt.EVT_REJECTED, lambda event: self._turned_away.rejected(event.assoc, self._calling)),
                ],
            )
        except OSError as error:
            text = f"cannot listen on this address: {error.strerror}; name another host or port"
            raise BadRequest(text, code="transport.address") from None
        server.socket.listen(BACKLOG)  # socketserver has 5: the next peer then waits for a second
        # Otherwise socketserver prints a traceback that holds the peer's address.
        failed = TransportWarning("peer.failed", "a connection failed before it was accepted; send again")
        server.handle_error = lambda *_: self.offer(failed)
        return server

    @property
    def address(self) -> tuple[str, int]:
        """The address it listens on."""
        host, port = self._server.server_address[:2]
        return host, port

    def close(self) -> None:
        if not self._closed.is_set():
            super().close()
            end_s = self._clock.monotonic_s() + CLOSE_S
            for assoc in self._ae.active_associations:
                if assoc.is_rejected:  # it ends by itself; aborted meanwhile, its thread would end with a traceback
                    assoc.join(max(0.0, end_s - self._clock.monotonic_s()))
                else:
                    assoc.abort()
            with contextlib.suppress(OSError):  # wakes the accepting thread, which otherwise polls twice a second
                self._server.socket.shutdown(socket.SHUT_RDWR)
            self._ae.shutdown()
            for assoc, _ in self._peers:
                assoc.join(max(0.0, end_s - self._clock.monotonic_s()))
            self._reap()

    def _stored(self, event: evt.Event) -> int:
        if self.is_full:
            return OUT_OF_RESOURCES
        arrived_s = self._clock.wall_s()
        try:
            record = guarded(lambda: read_dicom(event.encoded_dataset()))
            with self._storing:  # numbers are in the order of the files and of the queue
                kept = Kept(record, arrived_s, next(self._numbers))
                if self._spool is not None:
                    guarded(partial(self._spool.put, kept))
                self.put(_arrival(kept))
        except StorageFull as error:
            self._turned_away.report(
                "storage", f"an object was refused: {error}; free space on the disk, and send it again"
            )
            return OUT_OF_RESOURCES
        except MindsightError as error:
            self.put(TransportWarning(error.code, f"object {next(self._numbers)}: {error}", lost=True))
            return NOT_AS_IT_SHOULD_BE
        return SUCCESS

    def _before(self) -> Iterator[Arrival]:
        return iter(()) if self._spool is None else map(_arrival, self._spool.waiting())

    def _dealt_with(self, arrival: Arrival) -> None:
        self._n_dealt_with = max(self._n_dealt_with, arrival.number)
        if self._spool is not None:
            self._spool.release(self._assembler.is_over, self._n_dealt_with)

    def _finished(self) -> None:
        if self._spool is not None:
            self._spool.release(lambda _: True, self._n_dealt_with)

    def _connected(self, event: evt.Event) -> None:
        """Limits what a peer may make pynetdicom read: by itself it takes PDUs of any size and number."""
        peer: Any = event.assoc.dul.socket
        raw = peer.socket
        raw.settimeout(self._timeouts.stall_s)
        read, left, first, has_asked = peer.recv, self._max_object_bytes, b"", False

        def bounded(n_bytes: int) -> bytearray:
            nonlocal left, first
            left -= n_bytes
            if n_bytes > MAX_PDU_BYTES + 6 or left < 0:
                text = "disconnected a peer that sent more than one object may hold; check what it sends"
                self.offer(TransportWarning("peer.too_large", text))
                raise OSError  # pynetdicom treats it as a lost connection
            received: bytearray = read(n_bytes)
            if received and not first:
                first = bytes(received[:1])
                self._turned_away.first_byte(first[0], by_tls=self._by_tls)
            if hasattr(socket, "TCP_QUICKACK"):  # Linux; lasts for one read
                # Senders write command and data separately and wait for the first acknowledgement: 40 ms per object.
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return received

        def received(_: evt.Event) -> None:
            nonlocal left
            left = self._max_object_bytes

        def asked(_: evt.Event) -> None:
            nonlocal has_asked
            has_asked = True

        def gone(_: evt.Event) -> None:
            if first and not has_asked:
                self._turned_away.malformed(first[0])

        peer.recv = bounded
        for happened, do in ((evt.EVT_DIMSE_RECV, received), (evt.EVT_REQUESTED, asked), (evt.EVT_CONN_CLOSE, gone)):
            event.assoc.bind(happened, do)
        self._reap()
        with self._peers_lock:
            self._peers.append((event.assoc, raw))

    def _reap(self) -> None:
        """Closes the sockets that pynetdicom leaves open if the peer closes first."""
        with self._peers_lock:
            for assoc, raw in self._peers:
                if assoc.ident is not None and not assoc.is_alive():
                    raw.close()
            self._peers = [(assoc, raw) for assoc, raw in self._peers if raw.fileno() >= 0]


def _application_entity(title: str, calling: Sequence[str], timeouts: Timeouts) -> AE:
    """What is accepted of whom. Raises BadRequest."""
    try:
        ae = AE(title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(calling)
    except ValueError:
        raise BadRequest("expected AE titles of 1 to 16 plain characters", code="transport.ae_title") from None
    for storage in IMAGES:
        ae.add_supported_context(storage, list(SYNTAXES))
    ae.add_supported_context(Verification)
    ae.maximum_pdu_size = MAX_PDU_BYTES
    ae.acse_timeout = ae.dimse_timeout = timeouts.stall_s
    ae.network_timeout = timeouts.idle_s
    return ae


def _arrival(kept: Kept) -> Arrival:
    return Arrival(kept.record, kept.arrived_s, kept.number)


class _ImpatientTls:
    """A context whose handshakes time out: pynetdicom does them in the thread that accepts connections."""

    def __init__(self, context: ssl.SSLContext, turned_away: TurnedAway) -> None:
        self._context = context
        self._turned_away = turned_away

    def wrap_socket(self, sock: Any, server_side: bool) -> ssl.SSLSocket:
        sock.settimeout(HANDSHAKE_S)
        try:
            return self._context.wrap_socket(sock, server_side=server_side)
        except OSError as error:
            self._turned_away.handshake(str(getattr(error, "reason", None) or "it did not answer").lower())
            sock.close()
            raise
