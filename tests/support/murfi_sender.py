"""A sender of MURFI's vsend protocol, written from its struct."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

import numpy as np

from mindsight.scanner.transports.murfi import MurfiReceiver
from mindsight.volume import Volume
from support.taking import CLOCK, SHORT_TIMEOUTS

NATIVE = struct.Struct("5s i 64s 64s 16s 256s 16s ? ? 4d 3i 16f 4i ? 5s 6d")


def receiver(**options: Any) -> MurfiReceiver:
    return MurfiReceiver(port=0, clock=CLOCK, **{"timeouts": SHORT_TIMEOUTS, **options})


def header(
    volume: Volume, number: int, *, mosaic: bool = False, series: bytes = b"1.2.Doe", moco: bool = False
) -> bytes:
    return NATIVE.pack(
        *(b"ERTI", 4, series, b"EPI", b"3D", b"/data/Doe^John", b"int16_t", True, mosaic),
        *(2.0, 2.0, 2.0, 0.0, *volume.shape, *volume.affine.ravel()),
        *(round(volume.tr_s * 1000), 0, number, 155, moco, b"XYZT", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    )


def voxels(volume: Volume, *, mosaic: bool = False) -> bytes:
    planes_ZYX = np.asarray(volume.data, "<i2").T
    if not mosaic:
        return planes_ZYX.tobytes()
    z, y, x = planes_ZYX.shape
    side = int(np.ceil(np.sqrt(z)))
    picture = np.zeros((side * y, side * x), "<i2")
    for k in range(z):
        row, column = divmod(k, side)
        picture[row * y : (row + 1) * y, column * x : (column + 1) * x] = planes_ZYX[k]
    return picture.tobytes()


def send(transport: MurfiReceiver, *parts: bytes) -> None:
    """One connection, until the other side closes it too."""
    with socket.create_connection(transport.address, timeout=10) as peer, contextlib.suppress(ConnectionError):
        for part in parts:
            peer.sendall(part)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass


def send_run(transport: MurfiReceiver, run: list[Volume], numbers: list[int], **options: Any) -> None:
    mosaic = options.get("mosaic", False)
    for number in numbers:
        volume = run[number]
        send(transport, header(volume, number + 1, **options), voxels(volume, mosaic=mosaic))
