"""A TCP server for small binary protocols: bounded in connections, in bytes, and in time.

Knows nothing of what is said over the connections. No message holds an address.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial

from mindsight.errors import BadRequest, BadVolume, MindsightError
from mindsight.scanner.transports.contract import TransportWarning
from mindsight.scanner.transports.guard import guarded

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_CONNECTIONS = 8
SLICE_S = 0.1
CLOSE_S = 2.0
CHUNK_BYTES = 1 << 16
MIN_BYTES_PER_S = 1e6


class Wire:
    """One connection, read with deadlines. What was read ahead of a delimiter is kept for the next reading."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float], stopped: threading.Event) -> None:
        self._socket = sock
        self._clock = clock
        self._stopped = stopped
        self._ahead = bytearray()
        sock.settimeout(SLICE_S)

    def wait(self, wait_s: float) -> bool:
        """Whether more comes within so many seconds; False at the end of the connection."""
        return bool(self._ahead) or self._receive(wait_s)

    def exactly(self, n_bytes: int, stall_s: float) -> bytes:
        """Raises BadVolume where the peer ends, pauses for ``stall_s``, or dawdles before they are all there."""
        end_s = self._clock() + stall_s + n_bytes / MIN_BYTES_PER_S
        while len(self._ahead) < n_bytes:
            if not self._receive(min(stall_s, end_s - self._clock())):
                got = len(self._ahead)
                raise BadVolume(f"expected {n_bytes} bytes, got {got} and then nothing", code="peer.truncated")
        data = bytes(memoryview(self._ahead)[:n_bytes])
        del self._ahead[:n_bytes]
        return data

    def until(self, mark: bytes, max_bytes: int, stall_s: float) -> bytes:
        """What comes before the next such byte, which is read too. Raises BadVolume like ``exactly``, or too much."""
        end_s = self._clock() + stall_s
        searched = 0
        while (end := self._ahead.find(mark, searched)) < 0:
            searched = len(self._ahead)
            if searched > max_bytes:
                break
            if not self._receive(end_s - self._clock()):
                raise BadVolume("expected text and what marks its end, got no such mark", code="peer.truncated")
        if end < 0 or end > max_bytes:
            raise BadVolume(f"expected at most {max_bytes} bytes of text, got more", code="peer.too_large")
        data = bytes(self._ahead[:end])
        del self._ahead[: end + 1]
        return data

    def peek(self, n_bytes: int, stall_s: float) -> bytes:
        """The next bytes, which stay to be read; fewer at the end of the connection."""
        end_s = self._clock() + stall_s
        while len(self._ahead) < n_bytes and self._receive(end_s - self._clock()):
            pass
        return bytes(self._ahead[:n_bytes])

    def send(self, data: bytes, stall_s: float) -> bool:
        """False where the peer takes nothing of it for so long, dawdles, or is gone."""
        began_s = took_s = self._clock()
        left, end_s = memoryview(data), began_s + stall_s + len(data) / MIN_BYTES_PER_S
        while left and not self._stopped.is_set() and self._clock() < min(end_s, took_s + stall_s):
            try:
                left = left[self._socket.send(left) :]
                took_s = self._clock()
            except TimeoutError:
                continue
            except OSError:  # reset by the peer
                return False
        return not left

    def _receive(self, wait_s: float) -> bool:
        if wait_s <= 0.0:
            return False
        end_s = self._clock() + wait_s
        while not self._stopped.is_set():
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except TimeoutError:
                if self._clock() >= end_s:
                    return False
                continue
            except OSError:  # reset by the peer
                return False
            self._ahead += data
            return bool(data)
        return False


class Listener:
    """Accepts connections in a thread, and serves each in one of its own.

    serve : called with each connection, which is closed when it returns. What it raises is told
    tell : takes what was wrong
    allow : networks whose peers may connect; any where empty

    Raises BadRequest where the address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        serve: Callable[[Wire], None],
        warn: Callable[[TransportWarning], object],
        clock: Callable[[], float],
        *,
        allow: Sequence[Network] = (),
    ) -> None:
        self._serve = serve
        self._warn = warn
        self._clock = clock
        self._allow = tuple(allow)
        self._stopped = threading.Event()
        self._peers: list[threading.Thread] = []
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise BadRequest(f"cannot listen there: {error.strerror}", code="transport.address") from None
        self._socket.settimeout(SLICE_S)
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Ends all connections, and waits for what they have to tell."""
        self._stopped.set()
        self._thread.join(CLOSE_S)
        self._socket.close()
        end_s = self._clock() + CLOSE_S
        for peer in self._peers:
            peer.join(max(0.0, end_s - self._clock()))

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, address = self._socket.accept()
            except OSError:  # nobody came, or they left before they were let in
                continue
            try:
                guarded(partial(self._let_in, sock, address[0]))
            except MindsightError as error:  # no thread can be started
                self._warn(TransportWarning("peer.failed", f"a peer was sent away: {error}", lost=True))
                sock.close()

    def _let_in(self, sock: socket.socket, host: str) -> None:
        if not self._is_allowed(host):
            self._warn(TransportWarning("peer.refused", "a peer from a network that is not allowed was sent away"))
            sock.close()
        elif not self._free.acquire(blocking=False):
            text = f"more than {MAX_CONNECTIONS} peers at once; one was sent away"
            self._warn(TransportWarning("peer.too_many", text))
            sock.close()
        else:
            thread = threading.Thread(target=self._talk, args=(sock,), name="peer", daemon=True)
            try:
                thread.start()
            except BaseException:
                self._free.release()
                raise
            self._peers = [*(peer for peer in self._peers if peer.is_alive()), thread]

    def _is_allowed(self, host: str) -> bool:
        if not self._allow:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allow)

    def _talk(self, sock: socket.socket) -> None:
        try:
            with sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                try:
                    guarded(lambda: self._serve(Wire(sock, self._clock, self._stopped)))
                except MindsightError as error:
                    if not self._stopped.is_set():  # told before the peer sees the end; what we cut off is no trouble
                        lost = not error.code.endswith(".header")  # who speaks another protocol brought no volume
                        self._warn(TransportWarning(error.code, f"a connection was closed: {error}", lost=lost))
        except OSError:  # the peer went away while it was being closed
            return
        finally:
            self._free.release()
