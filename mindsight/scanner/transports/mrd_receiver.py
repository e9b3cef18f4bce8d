"""The receiving end of MRD's stream (Siemens' FIRE and OpenRecon, Gadgetron): a connection per measurement.

Knows nothing of what headers mean (``mrd.py``). The reconstruction waits for its images to come back. Either each image
is returned unchanged as soon as it is read (otherwise the scanner stores none), or none is. Configurations are never
executed, and no file is opened because a peer names it.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from typing_extensions import Unpack

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.assembly.arrivals import Arrival, Ended, NumberedVolume
from mindsight.scanner.assembly.items import TransportWarning
from mindsight.scanner.guard import guarded
from mindsight.scanner.transports.contract import Timeouts
from mindsight.scanner.transports.mrd import (
    Measurement,
    MrdImage,
    echo_of,
    image_bytes,
    parse_image,
    parse_measurement,
    volume_of,
    waveform_bytes,
)
from mindsight.scanner.transports.mrd_headers import HEADER_BYTES, WAVEFORM_HEADER_BYTES
from mindsight.scanner.transports.mrd_stacks import Stacks
from mindsight.scanner.transports.receiver import Receiver, ReceiverOptions
from mindsight.scanner.transports.tcp import Listener, Network, Wire
from mindsight.volume_bounds import is_tr

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT, ACQUISITION, IMAGE, WAVEFORM = 1, 2, 3, 4, 5, 1008, 1022, 1026
CONFIG_FILE_BYTES = 1024
MAX_TEXT_BYTES = 8 * 1024 * 1024
MAX_WAVEFORM_BYTES = 16 * 1024 * 1024
MAX_SERIES = 64

_ID, _LENGTH, _LONG = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


class MrdReceiver(Receiver):
    """The transport. It listens from its construction.

    allow : networks that may send; any if empty
    returns_images : send each image back unchanged

    Raises BadRequest if it cannot listen on the address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        allow: Sequence[Network] = (),
        returns_images: bool = True,
        **options: Unpack[ReceiverOptions],
    ) -> None:
        super().__init__(**options)
        self._returns_images = returns_images
        self._numbers = itertools.count(1)
        self._measurements = itertools.count(1)
        self._listener = Listener(host, port, self._serve, self.put, self._clock.monotonic_s, allow=allow)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def close(self) -> None:
        self._listener.close()
        super().close()

    def _serve(self, wire: Wire) -> None:
        number = next(self._measurements)
        returns, tr_s = self._returns_images, self._expected.tr_s
        _Conversation(wire, number, self._timeouts, returns, tr_s, self._numbers, self.put, self._take).hold()

    def _take(self, content: NumberedVolume | Ended) -> None:
        self.put(Arrival(content, self._clock.wall_s()))


class _Conversation:
    """One connection, which is one measurement."""

    def __init__(
        self,
        wire: Wire,
        number: int,
        timeouts: Timeouts,
        returns: bool,
        tr_s: float | None,
        images: Iterator[int],
        warn: Callable[[TransportWarning], None],
        take: Callable[[NumberedVolume | Ended], None],
    ) -> None:
        self._wire = wire
        self._number = number
        self._idle_s, self._stall_s = timeouts.idle_s, timeouts.stall_s
        self._returns = returns
        self._tr_s = tr_s
        self._images = images
        self._warn = warn
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
                self._volumes(key, stacks.finish())
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
            text = "expected images, got raw data; place the sender after the scanner's own reconstruction"
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
        except MindsightError as error:  # the next image may be good, and the scanner needs this one back
            lost = error.code != "slice.doubled"
            self._warn(TransportWarning(error.code, f"image {number}: {error}", lost=lost))
        if self._returns:
            self._send(_ID.pack(IMAGE), header, length, attributes, values)

    def _add(self, image: MrdImage) -> None:
        if image.kind is None:
            if not self._passed_over:
                text = "ignored navigators or colour images; the other images are read"
                self._warn(TransportWarning("series.ignored", text))
            self._passed_over = True
            return
        key = (image.series, image.contrast, str(image.kind))
        if key not in self._stacks:
            if len(self._stacks) >= MAX_SERIES:
                raise BadVolume(f"expected at most {MAX_SERIES} series in a measurement", code="mrd.series")
            self._stacks[key] = Stacks(self._measurement.n_slices, self._measurement.multiband)
            self._firsts[key] = image
        self._volumes(key, self._stacks[key].add(image))

    def _volumes(self, key: tuple[str, int, str], volumes: Iterable[tuple[int, list[MrdImage]]]) -> None:
        n_slices = self._stacks[key].n_slices
        for position, images in volumes:
            if images[0].shape[2] == 1 and n_slices is not None and len(images) < n_slices:
                text = f"dropped volume {position}: only {len(images)} of {n_slices} slices arrived; check the sender"
                self._warn(TransportWarning("volume.incomplete", text, position, lost=True))
                continue
            first = self._firsts[key]
            assert first.kind is not None
            try:
                volume = guarded(partial(volume_of, images, self._measurement.tr_s, self._tr_s))
            except MindsightError as error:
                self._warn(TransportWarning(error.code, f"volume {position}: {error}", position, lost=True))
                continue
            echo = echo_of(images[0], self._measurement)
            states_tr = any(map(is_tr, (self._measurement.tr_s, self._tr_s)))
            self._take(NumberedVolume(self._series(key), position, volume, first.kind, echo=echo, states_tr=states_tr))

    def _series(self, key: tuple[str, int, str]) -> str:
        return f"measurement {self._number} {key[0]}"

    def _send(self, *parts: bytes) -> None:
        if not self._wire.send(b"".join(parts), self._stall_s) and self._returns:
            self._returns = False
            if len(parts) > 1:
                text = (
                    "the scanner does not take its images back: images are still read, but no longer returned; "
                    "start with return=none if it does not expect them"
                )
                self._warn(TransportWarning("mrd.return", text))


def _bounded(n_bytes: int, most: int) -> int:
    if n_bytes > most:
        raise BadVolume(f"MRD: expected at most {most} bytes, got {n_bytes} announced", code="peer.too_large")
    return n_bytes
