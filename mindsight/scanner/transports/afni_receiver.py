"""The receiving end of AFNI's real-time protocol: a control port, a data port, a run per header.

Knows nothing of what headers mean (``afni.py``). Nothing a peer says is ever run, and no port is opened or connected
to because a peer says so.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.echoes import Echo, choice_note, choose
from mindsight.scanner.transports.afni import (
    END_OF_RUN,
    MAX_HEADER_BYTES,
    AfniHeader,
    control_port,
    parse_header,
)
from mindsight.scanner.transports.arrivals import Arrival, Ended, Placed
from mindsight.scanner.transports.assemble import Assembler
from mindsight.scanner.transports.contract import Clock, Expected, Patience, Trouble
from mindsight.scanner.transports.guard import guarded
from mindsight.scanner.transports.receiver import Receiver
from mindsight.scanner.transports.tcp import Listener, Network, Wire

MAX_CONTROL_BYTES = 4096


class AfniReceiver(Receiver):
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
        patience, expected = patience or Patience(), expected or Expected()
        super().__init__(Assembler(expected, patience.late_s, run), patience, clock)
        self._tr_s = expected.tr_s
        self._echo = expected.echo
        self._series = itertools.count(1)
        self._numbers = itertools.count(1)
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
                self._serve_run(wire, parse_header(text.strip(), self._tr_s))
        finally:
            self._sending.release()

    def _serve_run(self, wire: Wire, header: AfniHeader) -> None:
        """One run's images, up to the mark that ends it or the end of the connection."""
        series = f"header {next(self._series)}"
        if not header.is_series:
            self.put(Trouble("series.ignored", "a series was passed over: it is a single volume"))
        wanted = self._wanted(header)
        index, images = 0, {channel: list[bytes]() for channel in wanted}  # of the volume that is coming
        try:
            for number in itertools.count():
                if not wire.wait(self._patience.idle_s):
                    break
                image = wire.exactly(header.image_bytes, self._patience.stall_s)
                if image.startswith(END_OF_RUN):
                    break
                channel = number % header.n_channels
                if not header.is_series or channel not in wanted:
                    continue
                images[channel].append(image)
                if len(images[channel]) == header.images_per_volume:
                    self._put_volume(series, index, header, images[channel], wanted[channel])
                    images[channel].clear()
                    index += channel == max(wanted)
        finally:
            n_in_part = sum(map(len, images.values()))
            if n_in_part:
                text = f"the last volume of a run came in part ({n_in_part} slices); dropped"
                self.put(Trouble("volume.incomplete", text, index, lost=True))
            self._put(Ended(series))

    def _wanted(self, header: AfniHeader) -> dict[int, Echo | None]:
        """The channels that are read, with their echo where several are."""
        if self._echo == "combine":
            return dict(enumerate(header.echoes))
        try:
            chosen = choose(header.echoes, self._echo)
        except BadVolume as error:
            self.put(Trouble(error.code, f"a series was passed over: {error}", lost=True))
            return {}
        if header.n_channels > 1:
            self.put(Trouble("afni.channels", choice_note(chosen, header.echoes)))
        return {header.echoes.index(chosen): None}

    def _put_volume(
        self, series: str, index: int, header: AfniHeader, images: Sequence[bytes], echo: Echo | None
    ) -> None:
        try:
            volume = guarded(lambda: header.volume(images))
        except MindsightError as error:  # the next one may be better
            self.put(Trouble(error.code, f"volume {index}: {error}", index, lost=True))
        else:
            echoes = header.echoes if echo is not None else ()
            self._put(Placed(series, index, volume, is_run=True, echo=echo, echoes=echoes))

    def _put(self, content: Placed | Ended) -> None:
        number = next(self._numbers) if isinstance(content, Placed) else 0
        self.put(Arrival(content, self._clock.wall_s(), number))
