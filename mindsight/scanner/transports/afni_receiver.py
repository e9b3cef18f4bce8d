"""The receiving end of AFNI's real-time protocol: a control port, a data port, a run per header.

Knows nothing of what headers mean (``afni.py``). Nothing a peer says is ever run, and no port is opened or connected
to because a peer says so.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from mindsight.errors import BadVolume
from mindsight.scanner.transports.afni import (
    END_OF_RUN,
    MAX_HEADER_BYTES,
    AfniHeader,
    control_port,
    parse_header,
)
from mindsight.scanner.transports.contract import Clock, Expected, Item, Patience, RunEnded, Trouble
from mindsight.scanner.transports.receiver import Receiver
from mindsight.scanner.transports.tcp import Listener, Network, Wire
from mindsight.volume import Volume

MAX_CONTROL_BYTES = 4096


class _AsTold:
    """The protocol keeps order by itself: what comes is told."""

    def add(self, arrival: Item, now_s: float) -> Sequence[Item]:
        return (arrival,)

    def tick(self, now_s: float) -> Sequence[Item]:
        return ()

    def finish(self) -> Sequence[Item]:
        return ()


def _n_bytes(item: Item) -> int:
    return item.data.nbytes if isinstance(item, Volume) else 0


class AfniReceiver(Receiver[Item]):
    """The transport. It listens on both ports from when it is made; one sender at a time sends data.

    port : 7961 as Dimon has it by default
    data_port : 7960 by default; senders that announce another are told of in a Trouble
    allow : networks that senders may be in; any where empty

    Raises BadRequest where an address cannot be listened on.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7961,
        data_port: int = 7960,
        *,
        clock: Clock,
        expected: Expected | None = None,
        patience: Patience | None = None,
        run: int = 1,
        allow: Sequence[Network] = (),
    ) -> None:
        super().__init__(_AsTold(), patience or Patience(), clock, _n_bytes)
        self._expected = expected or Expected()
        self._runs = itertools.count(run)
        self._sending = threading.Lock()
        now_s = clock.monotonic_s
        self._data = Listener(host, data_port, self._serve_data, self.put, now_s, allow=allow)
        try:
            self._control = Listener(host, port, self._serve_control, self.put, now_s, allow=allow)
        except BaseException:
            self._data.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        return self._control.address

    @property
    def data_address(self) -> tuple[str, int]:
        return self._data.address

    def close(self) -> None:
        self._control.close()
        self._data.close()
        super().close()

    def _serve_control(self, wire: Wire) -> None:
        port = control_port(wire.until(b"\0", MAX_CONTROL_BYTES, self._patience.stall_s))
        if port is None:
            text = "a sender announced no TCP channel for its data (shared memory?); let it send over TCP"
            self.put(Trouble("afni.channel", text))
        elif port != self._data.address[1]:
            text = f"a sender will bring data to port {port}, expected {self._data.address[1]}; set one of the two"
            self.put(Trouble("afni.channel", text))

    def _serve_data(self, wire: Wire) -> None:
        if not self._sending.acquire(blocking=False):
            raise BadVolume("another sender is sending; one at a time", code="afni.busy")
        try:
            while wire.wait(self._patience.idle_s):
                text = wire.until(b"\0", MAX_HEADER_BYTES, self._patience.stall_s)
                self._serve_run(wire, parse_header(text.strip(), self._expected.tr_s))
        finally:
            self._sending.release()

    def _serve_run(self, wire: Wire, header: AfniHeader) -> None:
        """One run's images, up to the mark that ends it or the end of the connection."""
        why_not = self._why_not(header)
        if why_not is not None:
            self.put(Trouble("series.ignored", f"a series was passed over: {why_not}"))
        if header.n_channels > 1:
            text = f"{header.n_channels} channels (echoes) take turns; the first is read"
            self.put(Trouble("afni.channels", text))
        run = None if why_not is not None else next(self._runs)
        index, images = 0, list[bytes]()  # of the volume that is coming
        try:
            for number in itertools.count():
                if not wire.wait(self._patience.idle_s):
                    break
                image = wire.exactly(header.image_bytes, self._patience.stall_s)
                if image.startswith(END_OF_RUN):
                    break
                if run is None or number % header.n_channels:
                    continue
                images.append(image)
                if len(images) == header.images_per_volume:
                    self.put(header.volume(images, run, index, self._clock.wall_s()))
                    index += 1
                    images.clear()
                if index == self._expected.n_volumes:
                    self._end(run, index, 0)
                    run = None
        finally:
            if run is not None:
                self._end(run, index, len(images))

    def _end(self, run: int, n_volumes: int, n_left: int) -> None:
        if n_left:
            text = f"run {run}: the last volume came in part ({n_left} slices); dropped"
            self.put(Trouble("volume.incomplete", text, n_volumes, run))
        wanted = self._expected.n_volumes
        if wanted is not None and n_volumes < wanted:
            text = f"run {run}: ended after {n_volumes} of {wanted} volumes"
            self.put(Trouble("run.short", text, None, run))
        self.put(RunEnded(run, n_volumes))

    def _why_not(self, header: AfniHeader) -> str | None:
        if not header.is_series:
            return "it is a single volume"
        return self._expected.why_not(header.shape, header.tr_s)
