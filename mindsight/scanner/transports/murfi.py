"""The stream of Siemens' external image sender (and of MURFI's tools): one connection per volume.

Knows nothing of series. A volume is a C struct of 616 bytes in the layout of x86-64, then 16-bit voxels, as a mosaic or
slice by slice. Some senders send the two sizes first. Source: MURFI's RtExternalSenderImageInfo.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from mindsight.errors import BadVolume
from mindsight.scanner.assembly.arrivals import Arrival, NumberedVolume
from mindsight.scanner.formats.image_type import Kind
from mindsight.scanner.transports.receiver import Receiver, ReceiverOptions
from mindsight.scanner.transports.tcp import Listener, Network, Wire
from mindsight.volume import Volume
from mindsight.volume_bounds import MAX_SIDE

MAGICS = (b"ERTI", b"SIMU")
# Of 616 bytes: magic, series UID, data type, little-endian?, mosaic?, pixels of read, phase and slice, three rows of
# voxel to world, TR (ms), number of the volume, motion-corrected?. Ignored: texts, spacings, counts, the motion.
STRUCT = struct.Struct("<5s3x4x64s336x16s??2x32x3i12f16xi4xi4x?5x6x48x")
PRE_HEADER = struct.Struct("<II")
MAX_VOLUMES = 100_000


@dataclass(frozen=True, slots=True)
class MurfiHeader:
    """The header before a volume's voxels.

    series : digest that identifies the series
    number : of the volume in the sender's count
    corrected : the scanner corrected it for motion; the scanner then sends the raw volume too
    """

    series: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    tr_s: float
    number: int
    corrected: bool
    is_mosaic: bool

    @property
    def tiles_a_side(self) -> int:
        return math.isqrt(self.shape[2] - 1) + 1

    @property
    def data_bytes(self) -> int:
        x, y, z = self.shape
        return 2 * x * y * (self.tiles_a_side**2 if self.is_mosaic else z)

    def volume(self, data: bytes) -> Volume:
        """Raises BadVolume."""
        x, y, z = self.shape
        if self.is_mosaic:
            side = self.tiles_a_side
            tiles = np.frombuffer(data, "<i2").reshape(side, y, side, x).transpose(0, 2, 1, 3)
            planes_ZYX = tiles.reshape(side * side, y, x)[:z]
        else:
            planes_ZYX = np.frombuffer(data, "<i2").reshape(z, y, x)
        return Volume(planes_ZYX.T, self.affine, self.tr_s, 1, 0)


def parse_header(data: bytes) -> MurfiHeader:
    """The struct of one volume. Raises BadVolume if it is not one, or describes an impossible volume."""
    if len(data) != STRUCT.size or data[:4] not in MAGICS:
        _refuse("expected a header of 616 bytes that begins with ERTI; is this another protocol?")
    _, series, kind, little_endian, is_mosaic, x, y, z, *matrix, tr_ms, number, corrected = STRUCT.unpack(data)
    if kind.partition(b"\0")[0] != b"int16_t" or not little_endian:
        _refuse("expected little-endian int16_t voxels")
    if not all(1 <= side <= MAX_SIDE for side in (x, y, z)):
        _refuse(f"expected sides of 1 to {MAX_SIDE} voxels")
    if not 0 <= number <= MAX_VOLUMES:
        _refuse(f"expected the number of a volume, 0 to {MAX_VOLUMES}")
    return MurfiHeader(
        series=hashlib.sha256(series.partition(b"\0")[0]).hexdigest(),
        shape=(x, y, z),
        affine=np.array([*matrix, 0.0, 0.0, 0.0, 1.0], dtype=np.float64).reshape(4, 4),
        tr_s=tr_ms / 1000.0,
        number=number,
        corrected=corrected,
        is_mosaic=is_mosaic,
    )


def _refuse(message: str) -> NoReturn:
    raise BadVolume(f"MURFI header: {message}", code="murfi.header")


class MurfiReceiver(Receiver):
    """The transport. It listens from its construction.

    allow : networks that may send; any if empty

    Raises BadRequest if it cannot listen on the address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 15000,
        *,
        allow: Sequence[Network] = (),
        **options: Unpack[ReceiverOptions],
    ) -> None:
        super().__init__(**options)
        self._numbers = itertools.count(1)
        self._listener = Listener(host, port, self._serve, self.put, self._clock.monotonic_s, allow=allow)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def close(self) -> None:
        self._listener.close()
        super().close()

    def _serve(self, wire: Wire) -> None:
        stall_s = self._timeouts.stall_s
        if not wire.wait(stall_s):
            return
        sizes = None
        if wire.peek(4, stall_s) not in MAGICS:
            sizes = PRE_HEADER.unpack(wire.exactly(PRE_HEADER.size, stall_s))
            if sizes[0] != STRUCT.size:
                _refuse("expected a header of 616 bytes, announced or at once; is this another protocol?")
        header = parse_header(wire.exactly(STRUCT.size, stall_s))
        if sizes is not None and sizes[1] != header.data_bytes:
            _refuse(f"expected {header.data_bytes} bytes of voxels from the header, got {sizes[1]} announced")
        data = wire.exactly(header.data_bytes, stall_s)
        arrived_s = self._clock.wall_s()
        # Siemens counts from 1, MURFI's own tools from 0; ``runs.py`` accepts both.
        numbered = NumberedVolume(
            header.series, header.number - 1, header.volume(data), Kind(corrected=header.corrected)
        )
        self.put(Arrival(numbered, arrived_s, next(self._numbers)))
