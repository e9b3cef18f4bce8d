"""A sender of MRD messages, written from the pages that describe them. Imports nothing of Mindsight or ismrmrd."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType
from typing import Any

import numpy as np

# version, data type, flags, measurement, matrix, field of view, channels, position, read, phase, slice, table,
# average, slice, contrast, phase, repetition, set, time stamp, physiology, type, index, series, user, attributes
HEADER = struct.Struct("<HHQI3H3fH3f3f3f3f3f6HI3I3H8i8fI")
TYPES = {"uint16": 1, "int16": 2, "uint32": 3, "int32": 4, "float32": 5, "float64": 6, "complex64": 7, "complex128": 8}
MIDDAY_TICKS = 12 * 3600 * 400

XML = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <subjectInformation><patientName>Doe^John</patientName><patientID>Doe7</patientID></subjectInformation>
 <encoding>
  <encodingLimits>
   <slice><minimum>0</minimum><maximum>{last}</maximum><center>0</center></slice>
  </encodingLimits>
  <parallelImaging><multiband><multiband_factor>{multiband}</multiband_factor></multiband></parallelImaging>
 </encoding>
 <sequenceParameters><TR>{tr_ms}</TR>{echoes}</sequenceParameters>
</ismrmrdHeader>"""


def xml(n_slices: int, tr_ms: float = 1500.0, multiband: int = 1, echoes_ms: tuple[float, ...] = (30.0,)) -> bytes:
    times = "".join(f"<TE>{time}</TE>" for time in echoes_ms)
    return XML.format(last=n_slices - 1, tr_ms=tr_ms, multiband=multiband, echoes=times).encode()


def meta(**values: Any) -> bytes:
    listed = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in values.items()}
    parts = (
        f"<meta><name>{name}</name>{''.join(f'<value>{one}</value>' for one in value)}</meta>"
        for name, value in listed.items()
    )
    return f"<ismrmrdMeta>{''.join(parts)}</ismrmrdMeta>".encode()


def image(
    data_ZYX: np.ndarray,
    *,
    repetition: int = 0,
    slice_: int = 0,
    contrast: int = 0,
    position: tuple[float, ...] = (0.0, 0.0, 0.0),
    read: tuple[float, ...] = (1.0, 0.0, 0.0),
    phase: tuple[float, ...] = (0.0, 1.0, 0.0),
    through: tuple[float, ...] = (0.0, 0.0, 1.0),
    mm: tuple[float, float, float] = (3.0, 3.0, 3.5),
    stamp: int = MIDDAY_TICKS,
    kind: int = 1,
    series: int = 1,
    flags: int = 0,
    channels: int = 1,
    attributes: bytes = b"",
) -> bytes:
    z, y, x = data_ZYX.shape[-3:]
    fov = (x * mm[0], y * mm[1], z * mm[2])
    head = HEADER.pack(
        *(1, TYPES[str(data_ZYX.dtype)], flags, 7, x, y, z, *fov, channels, *position, *read, *phase, *through),
        *(0.0, 0.0, 0.0, 0, slice_, contrast, 0, repetition, 0, stamp, 0, 0, 0, kind, repetition, series),
        *((0,) * 8 + (0.0,) * 8),
        len(attributes),
    )
    return struct.pack("<H", 1022) + head + struct.pack("<Q", len(attributes)) + attributes + data_ZYX.tobytes()


class Sender:
    """A connection; what comes back is gathered by a thread of its own, as a scanner does."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=10.0)
        self.back = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        self._reader.join(10)

    def begin(self, header: bytes) -> None:
        self.send(struct.pack("<H1024s", 1, b"openrecon"))
        self.send(struct.pack("<HI", 3, len(header)) + header)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end(self) -> bytes:
        """Says that it is over; all that came back."""
        self.send(struct.pack("<H", 4))
        self._reader.join(10)
        return self.back

    def _read(self) -> None:
        try:
            while data := self._socket.recv(65536):
                self.back += data
        except OSError:
            return
