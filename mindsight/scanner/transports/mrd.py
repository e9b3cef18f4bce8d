"""The data of a reconstruction in MRD (ISMRMRD): the header of a measurement; images → volumes.

Knows nothing of sockets. From the MRD specification: message 1022 is an image header of 198 bytes, its meta attributes
and its values. Positions and directions are DICOM's (LPS), a position is the centre of the excited volume, and time
stamps count 2.5 ms since midnight, as in Siemens' reconstruction.

Only what a volume needs is read. The measurement's header names the participant, and attributes may hold a whole DICOM
header: anything that is not on the lists here is never read.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.assembly.arrivals import UNSTATED_TR_S
from mindsight.scanner.echoes import Echo
from mindsight.scanner.formats.dicom_record import Frame
from mindsight.scanner.formats.geometry import affine_ras, plane_axes, rescaled, slice_order, stack
from mindsight.scanner.formats.image_type import MAGNITUDE, Kind
from mindsight.scanner.transports.mrd_headers import ImageHeader, WaveformHeader
from mindsight.volume import Volume
from mindsight.volume_bounds import MAX_SIDE, MAX_VOXELS, is_tr

MAX_IMAGE_BYTES = 256 * 1024 * 1024
TICK_S = 0.0025

ALLOWED_META = frozenset(
    {"ImageType", "ImageRowDir", "ImageColumnDir", "ImageSliceDir", "RescaleSlope", "RescaleIntercept", "EchoTime"}
)
"""Meta attributes that are read."""

_DTYPES = {1: "<u2", 2: "<i2", 3: "<u4", 4: "<i4", 5: "<f4", 6: "<f8", 7: "<c8", 8: "<c16"}  # ISMRMRD_DataTypes
_COMPONENTS = {0: MAGNITUDE, 1: MAGNITUDE, 2: "phase", 3: "real", 4: "imaginary", 5: MAGNITUDE}
"""ISMRMRD_ImageTypes: 0 is unstated; of 5 (complex) the magnitude is taken."""
_IS_NAVIGATOR = 1 << 0


def _refuse(message: str) -> NoReturn:
    raise BadVolume(f"MRD: {message}", code="mrd.header")


@dataclass(frozen=True, slots=True)
class Measurement:
    """The fields of a measurement's XML header; None if they are not stated.

    n_slices : in the header's count, which may be one of excitations of several slices each (``multiband``)
    echo_times_ms : of each contrast
    """

    tr_s: float | None = None
    n_slices: int | None = None
    multiband: int = 1
    echo_times_ms: tuple[float, ...] = ()


def parse_measurement(text: bytes) -> Measurement:
    """The fields of the XML header. The participant's name, which it also holds, is never read. Raises BadVolume."""
    root = _xml(text)
    tr_ms = _floats(_found(root, "sequenceParameters/TR"))
    last = _floats(_found(root, "encoding/encodingLimits/slice/maximum"))
    multiband = _floats(_found(root, "encoding/parallelImaging/multiband/multiband_factor"))
    return Measurement(
        tr_s=tr_ms[0] / 1000.0 if tr_ms and 0.0 < tr_ms[0] < 60_000.0 else None,
        n_slices=int(last[0]) + 1 if last and 0 <= last[0] < MAX_SIDE else None,
        multiband=int(multiband[0]) if multiband and 1 <= multiband[0] <= 64 else 1,
        echo_times_ms=tuple(_floats(_found(root, "sequenceParameters/TE"))),
    )


@dataclass(frozen=True, slots=True)
class MrdImage:
    """An image header with its attributes: a slice, or a whole volume if ``shape[2]`` is above 1.

    repetition, slice, contrast : counters, from 0
    kind : kind of the values; None for images that show no signal (navigators, RGB)
    stamp_s : seconds since midnight; None without a stamp
    directions : along a row, down a column, and from slice to slice
    """

    series: str
    kind: Kind | None
    shape: tuple[int, int, int]
    dtype: str
    repetition: int
    slice: int
    contrast: int
    stamp_s: float | None
    centre_mm: tuple[float, ...]
    directions: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    fov_mm: tuple[float, ...]
    slope: float
    intercept: float
    echo_time_ms: float | None
    values: bytes = b""

    def frames(self) -> tuple[Frame, ...]:
        """Its planes as in DICOM: positions are those of the first pixel's centre."""
        x, y, z = self.shape
        row, column, through = (np.array(direction) for direction in self.directions)
        steps = [size / n for size, n in zip(self.fov_mm, self.shape, strict=True)]
        corner = np.array(self.centre_mm) - row * steps[0] * (x - 1) / 2 - column * steps[1] * (y - 1) / 2
        first = corner - through * steps[2] * (z - 1) / 2
        return tuple(
            Frame(
                position_mm=tuple(float(part) for part in first + k * steps[2] * through),
                orientation=(*self.directions[0], *self.directions[1]),
                spacing_mm=(steps[1], steps[0]),
                slice_spacing_mm=steps[2],
                slope=self.slope,
                intercept=self.intercept,
                acquired_s=self.stamp_s,
                temporal_position=None,
                component="",
            )
            for k in range(z)
        )

    def planes_ZYX(self) -> NDArray[Any]:
        values: NDArray[Any] = np.frombuffer(self.values, self.dtype).reshape(self.shape[::-1])
        return np.abs(values).astype(np.float32) if values.dtype.kind == "c" else values


def image_bytes(header: bytes) -> int:
    """Number of bytes of values that follow. Raises BadVolume if it is impossible."""
    head = ImageHeader.from_buffer_copy(header)
    if head.data_type not in _DTYPES:
        _refuse("expected an image header with a known type of data; is this another protocol?")
    sides = tuple(head.matrix_size)
    n_values = math.prod(sides) * max(1, head.channels)
    if not all(1 <= side <= MAX_SIDE for side in sides) or math.prod(sides) > MAX_VOXELS or head.channels > 64:
        _refuse(f"expected images with sides of 1 to {MAX_SIDE}")
    n_bytes = n_values * np.dtype(_DTYPES[head.data_type]).itemsize
    if n_bytes > MAX_IMAGE_BYTES:
        _refuse(f"expected images of at most {MAX_IMAGE_BYTES} bytes")
    return int(n_bytes)


def waveform_bytes(header: bytes) -> int:
    """Number of bytes of samples that follow the header of a waveform."""
    head = WaveformHeader.from_buffer_copy(header)
    return int(4 * head.channels * head.number_of_samples)


def parse_image(header: bytes, attributes: bytes, values: bytes, measurement: Measurement) -> MrdImage:
    """One image message. Raises BadVolume."""
    head = ImageHeader.from_buffer_copy(header)
    meta = _meta(attributes)
    words = {word.upper() for value in meta.get("ImageType", []) for word in value.replace("_", "\\").split("\\")}
    component = _COMPONENTS.get(head.image_type)
    is_signal = component is not None and not head.flags & _IS_NAVIGATOR
    if is_signal and head.channels > 1:
        raise BadVolume(
            f"expected images of the combined coils, got {head.channels} channels; combine them in the reconstruction",
            code="mrd.channels",
        )
    row, column = _direction(meta, "ImageRowDir", head.read_dir), _direction(meta, "ImageColumnDir", head.phase_dir)
    through = _direction(meta, "ImageSliceDir", head.slice_dir)
    if not math.isclose(float(np.linalg.norm(through)), 1.0, abs_tol=0.01):
        through = tuple(float(part) for part in np.cross(row, column))
    slope, intercept, echo_ms = (_floats(meta.get(n, [])) for n in ("RescaleSlope", "RescaleIntercept", "EchoTime"))
    times_ms = measurement.echo_times_ms[head.contrast : head.contrast + 1]
    return MrdImage(
        series=f"{head.measurement_uid} {head.image_series_index} {head.set} {head.phase} {head.average}",
        kind=Kind(component or MAGNITUDE, "MOCO" in words) if is_signal else None,
        shape=tuple(head.matrix_size),
        dtype=_DTYPES[head.data_type],
        repetition=head.repetition,
        slice=head.slice,
        contrast=head.contrast,
        stamp_s=head.acquisition_time_stamp * TICK_S if head.acquisition_time_stamp else None,
        centre_mm=_finite(head.position),
        directions=(row, column, through),
        fov_mm=_finite(head.field_of_view),
        slope=slope[0] if slope and slope[0] else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        echo_time_ms=next(iter(echo_ms or times_ms), None),
        values=values,
    )


def volume_of(images: Sequence[MrdImage], tr_s: float | None, given_s: float | None) -> Volume:
    """The volume of these slices, or of one image that is a whole volume. Raises BadVolume."""
    frames = tuple(frame for image in images for frame in image.frames())
    planes_ZYX = np.concatenate([image.planes_ZYX() for image in images])
    order_Z, step = slice_order(frames)
    frames = tuple(frames[k] for k in order_Z)
    row_step, column_step, _ = plane_axes(frames[0])
    stated = (one_s for one_s in (tr_s, given_s) if one_s is not None and is_tr(one_s))
    tr = next(stated, UNSTATED_TR_S)
    times = [frame.acquired_s for frame in frames if frame.acquired_s is not None]
    start_s = min(times, default=None)
    slice_times_s = None
    if start_s is not None and len(images) > 1 and len(times) == len(frames) and 0.0 < max(times) - start_s <= tr:
        slice_times_s = np.array(times) - start_s
    return Volume(
        data=stack(rescaled(planes_ZYX[order_Z], frames)),
        affine=affine_ras(row_step, column_step, step, np.array(frames[0].position_mm), images[0].shape[1]),
        tr_s=tr,
        run=1,
        index=0,
        acquired_s=start_s,
        slice_times_s=slice_times_s,
    )


def echo_of(image: MrdImage, measurement: Measurement) -> Echo | None:
    """The echo of an image; None if there is only one echo."""
    if image.contrast == 0 and len(measurement.echo_times_ms) < 2:
        return None
    return Echo(image.contrast + 1, image.echo_time_ms)


def _xml(text: bytes) -> ElementTree.Element:
    text = text.rstrip(b"\0")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:  # entities may expand without limit
        _refuse("expected XML in UTF-8 without a DOCTYPE")
    with contextlib.suppress(ElementTree.ParseError, ValueError, LookupError):
        return ElementTree.fromstring(text)  # noqa: S314 - see above
    _refuse("expected a header or attributes in XML, got something that does not parse")


def _found(root: ElementTree.Element, path: str) -> list[str]:
    """The texts of these elements, in any namespace."""
    nodes = [root]
    for name in path.split("/"):
        nodes = [child for node in nodes for child in node if child.tag.rpartition("}")[2] == name]
    return [node.text or "" for node in nodes]


def _meta(attributes: bytes) -> dict[str, list[str]]:
    if not attributes.strip(b"\0 \r\n"):
        return {}
    found: dict[str, list[str]] = {}
    for node in _xml(attributes).iter("meta"):
        name = next(iter(_found(node, "name")), "")
        if name in ALLOWED_META:
            found.setdefault(name, []).extend(_found(node, "value"))
    return found


def _floats(texts: Iterable[str]) -> list[float]:
    numbers: list[float] = []
    for text in texts:
        with contextlib.suppress(ValueError):
            numbers.append(float(text))
    return [number for number in numbers if math.isfinite(number)]


def _finite(values: Iterable[float]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(math.isfinite(number) and abs(number) < 1e6 for number in numbers):
        _refuse("expected finite numbers below 1e6 as position, directions and field of view")
    return numbers


def _direction(meta: dict[str, list[str]], name: str, own: Iterable[float]) -> tuple[float, ...]:
    """Direction of the image as sent, which may have been rotated or flipped since it was read out."""
    stated = _floats(meta.get(name, []))
    return tuple(stated) if len(stated) == 3 else _finite(own)
