"""A TCP server for small binary protocols: bounded in connections, in bytes, and in time.

Knows nothing of the protocols. No message holds an address.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial

from mindsight.errors import BadRequest, BadVolume, MindsightError
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.guard import guarded

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_CONNECTIONS = 8
SLICE_S = 0.1
CLOSE_S = 2.0
CHUNK_BYTES = 1 << 16
MIN_BYTES_PER_S = 1e6


class Wire:
    """One connection, read with deadlines. Bytes beyond a delimiter are kept for the next read."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float], stopped: threading.Event) -> None:
        self._socket = sock
        self._clock = clock
        self._stopped = stopped
        self._ahead = bytearray()
        sock.settimeout(SLICE_S)

    def wait(self, wait_s: float) -> bool:
        """Whether more bytes arrive within this time; False at the end of the connection."""
        return bool(self._ahead) or self._receive(wait_s)

    def exactly(self, n_bytes: int, stall_s: float) -> bytes:
        """This many bytes. Raises BadVolume if the peer ends, pauses for ``stall_s``, or is too slow."""
        end_s = self._clock() + stall_s + n_bytes / MIN_BYTES_PER_S
        while len(self._ahead) < n_bytes:
            if not self._receive(min(stall_s, end_s - self._clock())):
                got = len(self._ahead)
                text = f"expected {n_bytes} bytes, got {got} and then nothing; check the sender and the network"
                raise BadVolume(text, code="peer.truncated")
        data = bytes(memoryview(self._ahead)[:n_bytes])
        del self._ahead[:n_bytes]
        return data

    def until(self, mark: bytes, max_bytes: int, stall_s: float) -> bytes:
        """The bytes before the mark, which is read too. Raises BadVolume like ``exactly``, or if they are too many."""
        end_s = self._clock() + stall_s
        searched = 0
        while (end := self._ahead.find(mark, searched)) < 0:
            searched = len(self._ahead)
            if searched > max_bytes:
                break
            if not self._receive(end_s - self._clock()):
                text = "expected text with an end mark, got none; check the sender and the network"
                raise BadVolume(text, code="peer.truncated")
        if end < 0 or end > max_bytes:
            text = f"expected at most {max_bytes} bytes of text, got more; is this another protocol?"
            raise BadVolume(text, code="peer.too_large")
        data = bytes(self._ahead[:end])
        del self._ahead[: end + 1]
        return data

    def peek(self, n_bytes: int, stall_s: float) -> bytes:
        """The next bytes, without consuming them; fewer at the end of the connection."""
        end_s = self._clock() + stall_s
        while len(self._ahead) < n_bytes and self._receive(end_s - self._clock()):
            pass
        return bytes(self._ahead[:n_bytes])

    def send(self, data: bytes, stall_s: float) -> bool:
        """Sends all bytes; False if the peer takes nothing for ``stall_s``, is too slow, or is gone."""
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
    """Accepts connections in a thread, and serves each in a thread of its own.

    serve : called with each connection, which is closed when it returns. Its errors become warnings
    warn : takes the warnings
    allow : networks that may connect; any if empty

    Raises BadRequest if it cannot listen on the address.
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
            text = f"cannot listen on this address: {error.strerror}; name another host or port"
            raise BadRequest(text, code="transport.address") from None
        self._socket.settimeout(SLICE_S)
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Ends all connections, and waits for their last warnings."""
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
            except OSError:  # no connection, or it was closed before it was accepted
                continue
            try:
                guarded(partial(self._let_in, sock, address[0]))
            except MindsightError as error:  # no thread can be started
                self._warn(TransportWarning("peer.failed", f"refused a connection: {error}", lost=True))
                sock.close()

    def _let_in(self, sock: socket.socket, host: str) -> None:
        if not self._is_allowed(host):
            text = "refused a connection from a network that is not allowed; add it to allow if it is the scanner's"
            self._warn(TransportWarning("peer.refused", text))
            sock.close()
        elif not self._free.acquire(blocking=False):
            text = f"refused a connection beyond {MAX_CONNECTIONS} at once; close connections that are not in use"
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
                    if not self._stopped.is_set():  # reported before the peer sees the end; our own closing is not
                        lost = not error.code.endswith(".header")  # a peer with another protocol brought no volume
                        self._warn(TransportWarning(error.code, f"a connection was closed: {error}", lost=lost))
        except OSError:  # the peer disconnected while it was being closed
            return
        finally:
            self._free.release()
