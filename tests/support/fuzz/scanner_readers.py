"""Readers of what scanners send and of what lies beside their files: sockets, compressed pixels, sidecars."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mindsight.scanner import read_series
from mindsight.scanner.formats.rle import decode_frame
from mindsight.scanner.guard import guarded
from mindsight.scanner.transports.mrd import image_bytes, parse_image, parse_measurement, volume_of
from mindsight.scanner.transports.mrd_headers import HEADER_BYTES, ImageHeader
from support.fuzz.campaign import Reader
from support.fuzz.mutate import mutate_bytes, mutate_gzip, mutate_json, mutate_xml

_LENGTH = struct.Struct("<Q")
_MEASUREMENT = b"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<sequenceParameters><TR>1500.0</TR><TE>12.5</TE><TE>30.0</TE></sequenceParameters>
<encoding><encodingLimits><slice><minimum>0</minimum><maximum>3</maximum></slice></encodingLimits>
<parallelImaging><multiband><multiband_factor>2</multiband_factor></multiband></parallelImaging></encoding>
</ismrmrdHeader>"""
_ATTRIBUTES = b"""<?xml version="1.0"?><ismrmrdMeta>
<meta><name>ImageType</name><value>ORIGINAL\\PRIMARY\\M</value></meta>
<meta><name>ImageRowDir</name><value>1</value><value>0</value><value>0</value></meta>
<meta><name>RescaleSlope</name><value>0.5</value></meta></ismrmrdMeta>"""
_SIDECAR = {
    "RepetitionTime": 1.5,
    "EchoTime": 0.03,
    "SliceTiming": [0.0, 0.5, 1.0, 0.25, 0.75, 1.25, 0.1],
    "SliceEncodingDirection": "k",
    "VolumeTiming": [0.0, 1.5, 3.0],
    "MissingVolumes": [1],
}
_N_PIXELS = 64


def scanner_readers(folder: Path, nifti: bytes, of_file: Callable[..., Callable[[bytes], object]]) -> dict[str, Reader]:
    """By name. ``of_file`` : writes the content to a path, then reads it"""
    (folder / "sidecar").mkdir()
    (folder / "sidecar" / "bold.nii").write_bytes(nifti)

    def beside(_: Path) -> object:
        return list(read_series(folder / "sidecar" / "bold.nii"))

    def series(path: Path) -> object:
        return list(read_series(path))

    sidecar = Reader([json.dumps(_SIDECAR).encode()], of_file(folder / "sidecar" / "bold.json", beside), mutate_json)
    return {
        "nifti.gz": Reader([gzip.compress(nifti)], of_file(folder / "one.nii.gz", series), mutate_gzip),
        "sidecar": sidecar,
        "rle": Reader([_rle()], lambda content: decode_frame(content, _N_PIXELS, 2), _mutate_short),
        "mrd measurement": Reader([_MEASUREMENT], parse_measurement, mutate_xml),
        "mrd image": Reader([_image(1), _image(3)], _read_image),
    }


def _rle() -> bytes:
    """Two segments: 64 zeros as one run, and the numbers from 0 to 63 as they are."""
    high, low = bytes((257 - _N_PIXELS, 0)), bytes((_N_PIXELS - 1, *range(_N_PIXELS)))
    return struct.pack("<16L", 2, 64, 64 + len(high), *[0] * 13) + high + low


def _mutate_short(random_: random.Random, content: bytes) -> bytes:
    return mutate_bytes(random_, content, 96)


def _image(n_slices: int) -> bytes:
    head = ImageHeader(version=1, data_type=2, measurement_uid=7, channels=1, image_type=1, acquisition_time_stamp=9)
    for field, values in {
        "matrix_size": (5, 4, n_slices), "field_of_view": (10.0, 8.0, 3.0 * n_slices), "position": (1.0, 2.0, 3.0),
        "read_dir": (1.0, 0.0, 0.0), "phase_dir": (0.0, 1.0, 0.0), "slice_dir": (0.0, 0.0, 1.0),
    }.items():  # fmt: skip
        getattr(head, field)[:] = values
    values = np.arange(5 * 4 * n_slices, dtype="<i2").tobytes()
    return bytes(head) + _LENGTH.pack(len(_ATTRIBUTES)) + _ATTRIBUTES + values


def _read_image(content: bytes) -> object:
    """As a receiver does, once all of a message has come: one that is too short never ends."""
    header = content[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0")
    n_bytes = image_bytes(header)
    if n_bytes > 1_000_000:
        return None  # of which this content is not a message
    rest = content[HEADER_BYTES:].ljust(_LENGTH.size, b"\0")
    (length,) = _LENGTH.unpack(rest[: _LENGTH.size])
    attributes, values = rest[_LENGTH.size :][:length], rest[_LENGTH.size + min(length, len(rest)) :][:n_bytes]
    measurement = parse_measurement(_MEASUREMENT)

    def whole() -> object:
        image = parse_image(header, attributes, values.ljust(n_bytes, b"\0"), measurement)
        return None if image.kind is None else volume_of([image], measurement.tr_s, None)

    return guarded(whole)
