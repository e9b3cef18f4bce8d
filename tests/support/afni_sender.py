"""A sender of AFNI's real-time protocol, written from the protocol."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from mindsight.scanner.transports.afni_receiver import AfniReceiver
from mindsight.volume import Volume
from support.taking import CLOCK, SHORT_TIMEOUTS

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def receiver(**options: Any) -> AfniReceiver:
    return AfniReceiver(port=0, data_port=0, clock=CLOCK, **{"timeouts": SHORT_TIMEOUTS, **options})


def header(volume: Volume, *more: str, kind: str = "3D+t", datum: str = "short") -> bytes:
    """As Dimon writes it for an oblique volume, with the additional fields, which are ignored."""
    x, y, z = volume.shape
    dx, dy, dz = volume.voxel_mm
    xform = " ".join(f"{number:.9g}" for number in (LPS @ volume.affine).ravel())
    lines = [
        "NUM_CHAN 1",
        f"ACQUISITION_TYPE {kind}",
        "ZORDER seq",
        f"TR {volume.tr_s}",
        f"XYFOV {x * dx} {y * dy} {z * dz}",
        f"XYMATRIX {x} {y} {z}",
        f"DATUM {datum}",
        "XYZAXES R-L A-P I-S",
        "XYZFIRST 110.5R 120.25A 30I",
        "BYTEORDER LSB_FIRST",
        f"OBLIQUE_XFORM {xform}",
        "PREFIX Doe_run",
        "NOTE created from /data/20260101.Doe^John/001.dcm",
        "DRIVE_AFNI OPEN_WINDOW axialimage; SYSTEM touch Doe",
        "DRIVE_WAIT QUITT",
        *more,
    ]
    return "\n".join(lines).encode() + b"\0"


def image(volume: Volume, dtype: str = "<i2") -> bytes:
    """x fastest, then y, then z."""
    return np.asarray(volume.data, dtype).tobytes(order="F")


def announce(transport: AfniReceiver, announcement: bytes | None = None) -> None:
    text = b"tcp:localhost:%d\0" % transport.data_address[1] if announcement is None else announcement
    with socket.create_connection(transport.address, timeout=10) as control:
        control.sendall(text)


@contextlib.contextmanager
def data_channel(transport: AfniReceiver) -> Any:
    with socket.create_connection(transport.data_address, timeout=10) as channel:
        yield channel


def send_all(transport: AfniReceiver, parts: Iterable[bytes]) -> None:
    announce(transport)
    with data_channel(transport) as channel:
        for part in parts:
            channel.sendall(part)


def sender(transport: AfniReceiver, parts: Iterable[bytes]) -> threading.Thread:
    thread = threading.Thread(target=send_all, args=(transport, parts), daemon=True)
    thread.start()
    return thread
