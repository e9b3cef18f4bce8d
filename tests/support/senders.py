"""Senders of two real-time protocols, written from the pages that describe them. Import nothing of Mindsight.

AFNI: sections 1 to 4 of its wire facts, with Dimon's habits. Siemens' external image sender: MURFI's C struct, one
connection per volume. Volumes are (X, Y, Z) arrays of 16 bits, affines map voxels to RAS+ millimetres.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ENOUGH = b"Et Earello Endorenna utulien!!"
MURFI = struct.Struct("5s i 64s 64s 16s 256s 16s ? ? 4d 3i 16f 4i ? 5s 6d")  # native alignment, as a compiler has it


class Dimon:
    """Announces itself on the control port, comes back to the data port, and writes slice by slice.

    info_program : second line of the announcement, which a receiver of old would run
    """

    def __init__(self, host: str, control_port: int, data_port: int, info_program: str = "") -> None:
        line = f"tcp:{host}:{data_port}" + (f"\n{info_program}" if info_program else "")
        with socket.create_connection((host, control_port), timeout=30.0) as control:
            control.sendall(line.encode() + b"\0")
            control.shutdown(socket.SHUT_WR)
            while control.recv(1024):  # until the receiver has drained it
                pass
        self._data = socket.create_connection((host, data_port), timeout=60.0)

    def __enter__(self) -> Dimon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._data.close()

    def header(self, first: Array, affine: Array, tr_s: float) -> None:
        nx, ny, nz = first.shape
        mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        dicom = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        times = " ".join(f"{tr_s * z / nz:.4f}" for z in range(nz))
        lines = [
            "NUM_CHAN 1",
            "ACQUISITION_TYPE 3D+timing",
            "ZORDER seq",
            f"TPATTERN explicit {times}",
            f"TR {tr_s}",
            "ECHO_TIMES 30",
            f"XYFOV {nx * mm[0]:.4f} {ny * mm[1]:.4f} {nz * mm[2]:.4f}",
            f"XYMATRIX {nx} {ny} {nz}",
            "DATUM short",
            "XYZAXES R-L A-P I-S",
            "XYZFIRST 110R 110A 40I",
            "BYTEORDER LSB_FIRST",
            "OBLIQUE_XFORM " + " ".join(repr(float(number)) for number in dicom.ravel()),
            "GRAPH_XRANGE 50",
            "DRIVE_AFNI OPEN_WINDOW axialimage",
            "DRIVE_WAIT SYSTEM touch DRIVEN",
            "NOTE created remotely from /export/20260101.SEEDNAME/001_000007_000001.dcm",
        ]
        self._data.sendall("\n".join(lines).encode() + b"\0")

    def volume(self, data: Array) -> None:
        for z in range(data.shape[2]):
            self._data.sendall(np.asarray(data[:, :, z], "<i2").tobytes(order="F"))

    def end_of_run(self, like: Array) -> None:
        """The mark in a buffer of an image's size; another header may follow."""
        self._data.sendall(ENOUGH.ljust(2 * like.size, b"\0"))

    def run(self, volumes: Sequence[Array], affine: Array, tr_s: float) -> None:
        self.header(volumes[0], affine, tr_s)
        for data in volumes:
            self.volume(data)


def murfi_volume(
    port: int, data: Array, affine: Array, tr_s: float, number: int, *, series: str, moco: bool, announced: bool
) -> None:
    """One connection: the struct and a mosaic of voxels, where ``announced`` after the sizes of both."""
    nx, ny, nz = data.shape
    side = math.ceil(math.sqrt(nz))
    tiles = np.zeros((side * side, ny, nx), "<i2")
    tiles[:nz] = np.transpose(data, (2, 1, 0))
    mosaic = tiles.reshape(side, side, ny, nx).swapaxes(1, 2).tobytes()
    mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    header = MURFI.pack(
        *(b"ERTI", 4, series.encode(), b"fMRI", b"3D", b"SEEDNAME", b"int16_t", True, True),
        *(*mm, 0.0, nx, ny, nz, *affine.ravel(), round(1000 * tr_s), 30, number, 155, moco, b"XYZT"),
        *(0.0,) * 6,
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as peer, contextlib.suppress(ConnectionError):
        if announced:
            peer.sendall(struct.pack("<II", len(header), len(mosaic)))
        peer.sendall(header + mosaic)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1024):
            pass
