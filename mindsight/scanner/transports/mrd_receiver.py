"""The receiving end of MRD's stream (Siemens' FIRE and OpenRecon, Gadgetron): a connection per measurement.

Knows nothing of what headers mean (``mrd.py``). The reconstruction that hands its images over waits for what comes
back: each image goes back unchanged as soon as it is read (else the scanner stores none), or none does. Configurations
are never carried out, and no file is opened because a peer names it.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.transports.arrivals import Arrival, Ended, Placed
from mindsight.scanner.transports.assemble import Assembler
from mindsight.scanner.transports.contract import Clock, Expected, Patience, Trouble
from mindsight.scanner.transports.guard import guarded
from mindsight.scanner.transports.mrd import (
    Measurement,
    MrdImage,
    Stacks,
    echo_of,
    image_bytes,
    parse_image,
    parse_measurement,
    volume_of,
    waveform_bytes,
)
from mindsight.scanner.transports.mrd_headers import HEADER_BYTES, WAVEFORM_HEADER_BYTES
from mindsight.scanner.transports.receiver import Receiver
from mindsight.scanner.transports.tcp import Listener, Network, Wire
from mindsight.volume import is_tr

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT, ACQUISITION, IMAGE, WAVEFORM = 1, 2, 3, 4, 5, 1008, 1022, 1026
CONFIG_FILE_BYTES = 1024
MAX_TEXT_BYTES = 8 * 1024 * 1024
MAX_WAVEFORM_BYTES = 16 * 1024 * 1024
MAX_SERIES = 64

_ID, _LENGTH, _LONG = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


class MrdReceiver(Receiver):
    """The transport. It listens from when it is made.

    allow : networks that senders may be in; any where empty
    returns_images : each image is sent back as it came

    Raises BadRequest where the address cannot be listened on.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        clock: Clock,
        expected: Expected | None = None,
        patience: Patience | None = None,
        run: int = 1,
        allow: Sequence[Network] = (),
        returns_images: bool = True,
    ) -> None:
        patience, expected = patience or Patience(), expected or Expected()
        super().__init__(Assembler(expected, patience.late_s, run), patience, clock)
        self._returns_images = returns_images
        self._tr_s = expected.tr_s
        self._numbers = itertools.count(1)
        self._measurements = itertools.count(1)
        self._listener = Listener(host, port, self._serve, self.put, clock.monotonic_s, allow=allow)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def close(self) -> None:
        self._listener.close()
        super().close()

    def _serve(self, wire: Wire) -> None:
        number = next(self._measurements)
        returns, tr_s = self._returns_images, self._tr_s
        _Conversation(wire, number, self._patience, returns, tr_s, self._numbers, self.put, self._take).hold()

    def _take(self, content: Placed | Ended) -> None:
        self.put(Arrival(content, self._clock.wall_s()))


class _Conversation:
    """One connection, which is one measurement."""

    def __init__(
        self,
        wire: Wire,
        number: int,
        patience: Patience,
        returns: bool,
        tr_s: float | None,
        images: Iterator[int],
        tell: Callable[[Trouble], None],
        take: Callable[[Placed | Ended], None],
    ) -> None:
        self._wire = wire
        self._number = number
        self._idle_s, self._stall_s = patience.idle_s, patience.stall_s
        self._returns = returns
        self._tr_s = tr_s
        self._images = images
        self._tell = tell
        self._take = take
        self._measurement = Measurement()
        self._stacks: dict[tuple[str, int, str], Stacks] = {}
        self._firsts: dict[tuple[str, int, str], MrdImage] = {}
        self._passed_over = False

    def hold(self) -> None:
        try:
            while self._wire.wait(self._idle_s):
                kind = _ID.unpack(self._wire.exactly(_ID.size, self._stall_s))[0]
                if kind == CLOSE:
                    break
                self._message(kind)
        finally:
            for key, stacks in self._stacks.items():
                self._place(key, stacks.finish())
            for series in dict.fromkeys(self._series(key) for key in self._stacks):
                self._take(Ended(series))
        self._send(_ID.pack(CLOSE))

    def _message(self, kind: int) -> None:
        if kind == CONFIG_FILE:
            self._wire.exactly(CONFIG_FILE_BYTES, self._stall_s)
        elif kind in (CONFIG_TEXT, TEXT):
            self._text()
        elif kind == HEADER:
            self._measurement = parse_measurement(self._text())
        elif kind == IMAGE:
            self._image()
        elif kind == WAVEFORM:  # pulse and breath
            n_bytes = waveform_bytes(self._wire.exactly(WAVEFORM_HEADER_BYTES, self._stall_s))
            self._wire.exactly(_bounded(n_bytes, MAX_WAVEFORM_BYTES), self._stall_s)
        elif kind == ACQUISITION:
            text = "expected images, got raw data; hand the images over, behind the scanner's own reconstruction"
            raise BadVolume(f"MRD: {text}", code="mrd.raw")
        else:
            raise BadVolume("MRD: expected a message of a known kind; is this another protocol?", code="mrd.header")

    def _text(self) -> bytes:
        (length,) = _LENGTH.unpack(self._wire.exactly(_LENGTH.size, self._stall_s))
        return self._wire.exactly(_bounded(length, MAX_TEXT_BYTES), self._stall_s)

    def _image(self) -> None:
        header = self._wire.exactly(HEADER_BYTES, self._stall_s)
        n_bytes = image_bytes(header)
        length = self._wire.exactly(_LONG.size, self._stall_s)
        attributes = self._wire.exactly(_bounded(_LONG.unpack(length)[0], MAX_TEXT_BYTES), self._stall_s)
        values = self._wire.exactly(n_bytes, self._stall_s)
        number = next(self._images)
        try:
            guarded(lambda: self._add(parse_image(header, attributes, values, self._measurement)))
        except MindsightError as error:  # the next one may be better, and the scanner wants this one back
            lost = error.code != "slice.doubled"
            self._tell(Trouble(error.code, f"image {number}: {error}", lost=lost))
        if self._returns:
            self._send(_ID.pack(IMAGE), header, length, attributes, values)

    def _add(self, image: MrdImage) -> None:
        if image.kind is None:
            if not self._passed_over:
                text = "navigators or coloured pictures were passed over; the images are read"
                self._tell(Trouble("series.ignored", text))
            self._passed_over = True
            return
        key = (image.series, image.contrast, str(image.kind))
        if key not in self._stacks:
            if len(self._stacks) >= MAX_SERIES:
                raise BadVolume(f"expected at most {MAX_SERIES} series in a measurement", code="mrd.series")
            self._stacks[key] = Stacks(self._measurement.n_slices, self._measurement.multiband)
            self._firsts[key] = image
        self._place(key, self._stacks[key].add(image))

    def _place(self, key: tuple[str, int, str], volumes: Iterable[tuple[int, list[MrdImage]]]) -> None:
        n_slices = self._stacks[key].n_slices
        for position, images in volumes:
            if images[0].shape[2] == 1 and n_slices is not None and len(images) < n_slices:
                text = f"volume {position}: {len(images)} of {n_slices} slices came; dropped"
                self._tell(Trouble("volume.incomplete", text, position, lost=True))
                continue
            first = self._firsts[key]
            assert first.kind is not None
            try:
                volume = guarded(partial(volume_of, images, self._measurement.tr_s, self._tr_s))
            except MindsightError as error:
                self._tell(Trouble(error.code, f"volume {position}: {error}", position, lost=True))
                continue
            echo = echo_of(images[0], self._measurement)
            states_tr = any(map(is_tr, (self._measurement.tr_s, self._tr_s)))
            self._take(Placed(self._series(key), position, volume, first.kind, echo=echo, states_tr=states_tr))

    def _series(self, key: tuple[str, int, str]) -> str:
        return f"measurement {self._number} {key[0]}"

    def _send(self, *parts: bytes) -> None:
        if not self._wire.send(b"".join(parts), self._stall_s) and self._returns:
            self._returns = False
            if len(parts) > 1:
                text = "the scanner does not take its images back; they are read on, and none is returned any more"
                self._tell(Trouble("mrd.return", text))


def _bounded(n_bytes: int, most: int) -> int:
    if n_bytes > most:
        raise BadVolume(f"MRD: expected at most {most} bytes, got {n_bytes} announced", code="peer.too_large")
    return n_bytes
