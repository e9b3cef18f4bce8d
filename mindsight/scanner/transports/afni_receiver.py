"""The receiving end of AFNI's real-time protocol: a control port, a data port, a run per header.

Knows nothing of what headers mean (``afni.py``). Commands from a peer are never run, and no port is opened or connected
to because a peer asks for it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from typing_extensions import Unpack

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.assembly.arrivals import Arrival, Ended, NumberedVolume
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.echoes import Echo, choice_note, choose
from mindsight.scanner.guard import guarded
from mindsight.scanner.transports.afni import (
    END_OF_RUN,
    MAX_HEADER_BYTES,
    AfniHeader,
    control_port,
    parse_header,
)
from mindsight.scanner.transports.receiver import Receiver, ReceiverOptions
from mindsight.scanner.transports.tcp import Listener, Network, Wire

MAX_CONTROL_BYTES = 4096


class AfniReceiver(Receiver):
    """The transport. It listens on both ports from its construction; one sender at a time sends data.

    port : control port, 7961 like Dimon's default
    data_port : 7960 by default; a sender that announces another one causes a warning
    allow : networks that may send; any if empty

    Raises BadRequest if it cannot listen on an address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7961,
        data_port: int = 7960,
        *,
        allow: Sequence[Network] = (),
        **options: Unpack[ReceiverOptions],
    ) -> None:
        super().__init__(**options)
        self._series = itertools.count(1)
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        now_s = self._clock.monotonic_s
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
        port = control_port(wire.until(b"\0", MAX_CONTROL_BYTES, self._timeouts.stall_s))
        if port is None:
            text = "a sender announced no TCP channel for its data (shared memory?); set it to send over TCP"
            self.put(TransportWarning("afni.channel", text))
        elif port != self._data.address[1]:
            text = (
                f"a sender will send its data to port {port}, expected {self._data.address[1]}; "
                f"start with data={port}, or change the port at the sender"
            )
            self.put(TransportWarning("afni.channel", text))

    def _serve_data(self, wire: Wire) -> None:
        if not self._sending.acquire(blocking=False):
            raise BadVolume("expected one sender at a time, got a second; stop one of the two", code="afni.busy")
        try:
            while wire.wait(self._timeouts.idle_s):
                text = wire.until(b"\0", MAX_HEADER_BYTES, self._timeouts.stall_s)
                self._serve_run(wire, parse_header(text.strip(), self._expected.tr_s))
        finally:
            self._sending.release()

    def _serve_run(self, wire: Wire, header: AfniHeader) -> None:
        """One run's images, up to the end mark or the end of the connection."""
        series = f"header {next(self._series)}"
        if not header.is_series:
            self.put(TransportWarning("series.ignored", "ignored a series that is a single volume, not a run"))
        wanted = self._wanted(header)
        index, images = 0, {channel: list[bytes]() for channel in wanted}  # of the volume in progress
        try:
            for number in itertools.count():
                if not wire.wait(self._timeouts.idle_s):
                    break
                image = wire.exactly(header.image_bytes, self._timeouts.stall_s)
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
                text = f"dropped the incomplete last volume of a run ({n_in_part} slices): was the run stopped?"
                self.put(TransportWarning("volume.incomplete", text, index, lost=True))
            self._put(Ended(series))

    def _wanted(self, header: AfniHeader) -> dict[int, Echo | None]:
        """The channels to read, with their echo if all echoes are combined."""
        if self._expected.echo == "combine":
            return dict(enumerate(header.echoes))
        try:
            chosen = choose(header.echoes, self._expected.echo)
        except BadVolume as error:
            self.put(TransportWarning(error.code, f"ignored a series: {error}", lost=True))
            return {}
        if header.n_channels > 1:
            self.put(TransportWarning("afni.channels", choice_note(chosen, header.echoes)))
        return {header.echoes.index(chosen): None}

    def _put_volume(
        self, series: str, index: int, header: AfniHeader, images: Sequence[bytes], echo: Echo | None
    ) -> None:
        try:
            volume = guarded(lambda: header.volume(images))
        except MindsightError as error:  # the next one may be better
            self.put(TransportWarning(error.code, f"volume {index}: {error}", index, lost=True))
        else:
            echoes = header.echoes if echo is not None else ()
            self._put(NumberedVolume(series, index, volume, is_run=True, echo=echo, echoes=echoes))

    def _put(self, content: NumberedVolume | Ended) -> None:
        number = next(self._numbers) if isinstance(content, NumberedVolume) else 0
        self.put(Arrival(content, self._clock.wall_s(), number))
