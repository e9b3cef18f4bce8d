"""A TCP proxy that behaves badly, for tests of what must survive a bad network."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """A TCP proxy in front of the gateway that delays, cuts and refuses connections on demand."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay_s = 0.0
        self.refusing = False
        self.silent = False
        self.cuts = 0
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Cut every connection, wherever its bytes are now."""
        for link in list(self._links):
            self.cuts += 1
            self._drop(link)

    def close(self) -> None:
        self._closed.set()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self.refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            link = (near, far)
            self._links.append(link)
            for source, sink in (link, link[::-1]):
                thread = threading.Thread(target=self._pump, args=(link, source, sink))
                self._threads.append(thread)
                thread.start()

    def _pump(self, link: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        try:
            source.settimeout(None)
            while data := source.recv(16384):
                if self.delay_s:
                    time.sleep(self.delay_s)
                while self.silent and not self._closed.is_set():
                    time.sleep(0.02)
                sink.sendall(data)
        except OSError:
            pass
        self._drop(link)

    def _drop(self, link: tuple[socket.socket, socket.socket]) -> None:
        for end in link:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with suppress(ValueError):  # the other direction's thread was faster
            self._links.remove(link)
