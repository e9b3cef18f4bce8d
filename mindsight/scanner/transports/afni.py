"""The data of AFNI's real-time senders (Dimon, rtfeedme): header text → a run's grid; image bytes → volumes.

Knows nothing of sockets. Source: AFNI's README.realtime.

Only what a volume needs is read from a header. ``NOTE`` holds file paths, ``NAME`` and ``PREFIX`` a name, ``DRIVE_*``
commands for AFNI, and the second line of the control text names a program to run: all of these are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Echo
from mindsight.scanner.formats.geometry import LPS_TO_RAS
from mindsight.volume import Volume
from mindsight.volume_bounds import MAX_SIDE

END_OF_RUN = b"Et Earello Endorenna utulien!!"
MAX_HEADER_BYTES = 64 * 1024
MAX_LINE = 8 * 1024  # AFNI's own limit is 1024, which the explicit times of a hundred slices exceed
MAX_IMAGE_BYTES = 128 * 1024 * 1024
MAX_CHANNELS = 64
_ABSURD = 1e9

_WANTED = frozenset(
    {
        *("ACQUISITION_TYPE", "TR", "NUMVOL", "NUM_CHAN", "XYMATRIX", "ZNUM", "XYFOV", "ZDELTA", "ZGAP", "ZORDER"),
        *("DATUM", "BYTEORDER", "XYZAXES", "XYZFIRST", "ZFIRST", "XYZOFF", "OBLIQUE_XFORM", "TPATTERN", "ECHO_TIMES"),
    }
)
_TYPES = {"2D+z", "2D+zt", "3D", "3D+t", "3D+timing"}
_DATUMS = {"short": "i2", "float": "f4", "byte": "u1", "int": "i4"}
_ORDERS = {"LSB_FIRST": "<", "MSB_FIRST": ">"}
# AFNI's frame is DICOM's: +x to the left, +y to posterior, +z to superior.
_DIRECTIONS = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
_PATTERNS: dict[str, Callable[[int], list[int]]] = {
    "seq+z": lambda n: [*range(n)],
    "seq-z": lambda n: [*range(n - 1, -1, -1)],
    "alt+z": lambda n: [*range(0, n, 2), *range(1, n, 2)],
    "alt+z2": lambda n: [*range(1, n, 2), *range(0, n, 2)],
    "alt-z": lambda n: [*range(n - 1, -1, -2), *range(n - 2, -1, -2)],
    "alt-z2": lambda n: [*range(n - 2, -1, -2), *range(n - 1, -1, -2)],
}
_NUMBER = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)([RLAPIS])?$")


@dataclass(frozen=True, slots=True)
class AfniHeader:
    """The header before a run's images.

    by_slice : an image is a slice, in the order of ``slice_order``; otherwise a whole volume
    is_series : the images belong to several volumes
    n_volumes : None if the sender does not state it
    n_channels : images of the channels (echoes) alternate
    echo_times_ms : of each channel, empty if the sender does not state them
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    tr_s: float
    dtype: str
    by_slice: bool
    is_series: bool
    slice_order: tuple[int, ...]
    slice_times_s: NDArray[np.float64] | None
    n_volumes: int | None
    n_channels: int
    echo_times_ms: tuple[float, ...] = ()

    @property
    def echoes(self) -> tuple[Echo, ...]:
        """The echo of each channel."""
        times = self.echo_times_ms or (None,) * self.n_channels
        return tuple(Echo(number, time_ms) for number, time_ms in enumerate(times, 1))

    @property
    def image_bytes(self) -> int:
        x, y, z = self.shape
        return x * y * (1 if self.by_slice else z) * np.dtype(self.dtype).itemsize

    @property
    def images_per_volume(self) -> int:
        return self.shape[2] if self.by_slice else 1

    def volume(self, images: Sequence[bytes]) -> Volume:
        """The volume of these images, given in order of arrival. Raises BadVolume."""
        x, y, z = self.shape
        planes_ZYX: NDArray[Any] = np.frombuffer(b"".join(images), self.dtype).reshape(z, y, x)
        if self.by_slice:
            planes_ZYX = planes_ZYX[np.argsort(self.slice_order)]
        return Volume(
            data=planes_ZYX.astype(np.dtype(self.dtype).newbyteorder("="), copy=False).T,
            affine=self.affine,
            tr_s=self.tr_s,
            run=1,
            index=0,
            slice_times_s=self.slice_times_s,
        )


def parse_header(text: bytes, tr_s: float | None = None) -> AfniHeader:
    """The header before the first image, without its zero byte.

    tr_s : repetition time if the header has no ``TR``

    Raises BadVolume for a line that is too long, an impossible value, or a missing value that every volume needs.
    """
    fields = _lines(text)
    kind = _word(fields, "ACQUISITION_TYPE", "2D+zt", _TYPES)
    sizes = _numbers(fields, "XYMATRIX", 2, 3)
    if len(sizes) == 2:
        sizes += _numbers(fields, "ZNUM", 1)
    if any(size != int(size) or not 1 <= size <= MAX_SIDE for size in sizes):
        _refuse(f"expected a matrix with sides of 1 to {MAX_SIDE} in XYMATRIX and ZNUM")
    x, y, z = (int(size) for size in sizes)
    stated_s = _numbers(fields, "TR", 1)[0] if "TR" in fields else tr_s
    if stated_s is None or not 0.0 < stated_s < 60.0:
        _refuse("expected a TR between 0 and 60 seconds")
    datum = _DATUMS[_word(fields, "DATUM", "short", set(_DATUMS))]
    channels = _numbers(fields, "NUM_CHAN", 1)[0] if "NUM_CHAN" in fields else 1
    if not 1 <= channels <= MAX_CHANNELS:
        _refuse(f"expected 1 to {MAX_CHANNELS} channels in NUM_CHAN")
    count = _numbers(fields, "NUMVOL", 1)[0] if "NUMVOL" in fields else 0.0
    by_slice = kind.startswith("2D")
    header = AfniHeader(
        shape=(x, y, z),
        affine=_affine(fields, (x, y, z)),
        tr_s=stated_s,
        dtype=_ORDERS[_word(fields, "BYTEORDER", "LSB_FIRST", set(_ORDERS))] + datum,
        by_slice=by_slice,
        is_series=kind in ("2D+zt", "3D+t", "3D+timing"),
        slice_order=_slice_order(fields, z) if by_slice else tuple(range(z)),
        slice_times_s=_slice_times(fields, z, stated_s),
        n_volumes=int(count) if 0 < count < 1e6 else None,
        n_channels=int(channels),
        echo_times_ms=_echo_times_ms(fields, int(channels)),
    )
    if header.image_bytes * header.images_per_volume > MAX_IMAGE_BYTES:
        _refuse(f"expected volumes of at most {MAX_IMAGE_BYTES} bytes")
    return header


def _echo_times_ms(fields: Mapping[str, list[str]], n_channels: int) -> tuple[float, ...]:
    """Echo time of each channel, or empty. Senders state milliseconds, some of them seconds."""
    words = fields.get("ECHO_TIMES", [])
    if n_channels < 2 or len(words) != n_channels or not all(_NUMBER.match(word) for word in words):
        return ()
    times = [float(word.rstrip("RLAPIS")) for word in words]
    if not all(0.0 < time < _ABSURD for time in times):
        return ()
    return tuple(1000.0 * time if max(times) < 1.0 else time for time in times)


def control_port(text: bytes) -> int | None:
    """Port that a sender will send its data to; None if it names another kind of channel (shared memory).

    text : received on the control connection. Its second line, a program to run, is never read
    """
    match = re.match(rb"^tcp:[^:\n]{1,255}:(\d{1,5})\s*$", text.partition(b"\n")[0])
    return int(match[1]) if match else None


def _refuse(message: str) -> NoReturn:
    raise BadVolume(f"AFNI header: {message}", code="afni.header")


def _lines(text: bytes) -> dict[str, list[str]]:
    if len(text) > MAX_HEADER_BYTES:
        _refuse(f"expected at most {MAX_HEADER_BYTES} bytes")
    fields: dict[str, list[str]] = {}
    where: list[str] = []
    for line in text.split(b"\n"):
        if len(line) > MAX_LINE:
            _refuse(f"expected lines of at most {MAX_LINE} bytes")
        words = line.decode("ascii", "replace").split()
        if words and words[0] in _WANTED:
            fields[words[0]] = words[1:]
            if words[0] in ("ZFIRST", "XYZFIRST", "XYZOFF"):  # the later one wins
                where.append(words[0])
    return fields | {"where": where}


def _numbers(fields: Mapping[str, list[str]], name: str, at_least: int, at_most: int | None = None) -> list[float]:
    """Numbers after a command. Raises BadVolume for another count of them, or for anything else."""
    words = fields.get(name)
    most = at_least if at_most is None else at_most
    if words is None or not at_least <= len(words) <= most or not all(_NUMBER.match(word) for word in words):
        _refuse(f"expected {at_least} to {most} numbers after {name}")
    numbers = [float(word.rstrip("RLAPIS")) for word in words]
    if not all(abs(number) < _ABSURD for number in numbers):
        _refuse(f"expected numbers below {_ABSURD:g} after {name}")
    return numbers


def _word(fields: Mapping[str, list[str]], name: str, default: str, known: set[str]) -> str:
    word = next(iter(fields.get(name, [default])), "")
    if word not in known:
        _refuse(f"expected one of {', '.join(sorted(known))} after {name}")
    return word


def _affine(fields: Mapping[str, list[str]], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """(4, 4) voxel → RAS+ millimetres: from the oblique transform if there is one, else from axes and sizes."""
    if "OBLIQUE_XFORM" in fields:
        matrix = np.array(_numbers(fields, "OBLIQUE_XFORM", 16)).reshape(4, 4)
        if not np.array_equal(matrix[3], (0, 0, 0, 1)):
            _refuse("expected 0 0 0 1 as the last row of OBLIQUE_XFORM")
        return np.asarray(LPS_TO_RAS @ matrix, dtype=np.float64)
    axes = fields.get("XYZAXES", [])
    starts = [word.replace("-", "")[:1] for word in axes]
    ends = [word.replace("-", "")[1:] for word in axes]
    if len(axes) != 3 or any(word not in _DIRECTIONS for word in (*starts, *ends)):
        _refuse("expected three axes like R-L A-P I-S after XYZAXES")
    if sorted(_DIRECTIONS[end][0] for end in ends) != [0, 1, 2] or any(
        _DIRECTIONS[start] != (_DIRECTIONS[end][0], -_DIRECTIONS[end][1])
        for start, end in zip(starts, ends, strict=True)
    ):
        _refuse("expected three different axes after XYZAXES, each from a side to the opposite one")
    steps_mm = _steps_mm(fields, shape)
    first_mm = _first_mm(fields, shape, steps_mm, starts)
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, end in enumerate(ends):
        row, sign = _DIRECTIONS[end]
        affine[row, axis] = sign * steps_mm[axis]
        affine[row, 3] = first_mm[axis]
    return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)


def _steps_mm(fields: Mapping[str, list[str]], shape: tuple[int, int, int]) -> list[float]:
    fov = _numbers(fields, "XYFOV", 2, 3)
    fov[1] = fov[1] or fov[0]
    steps = [fov[0] / shape[0], fov[1] / shape[1]]
    if len(fov) == 3 and fov[2] > 0.0:
        steps.append(fov[2] / shape[2] + (_numbers(fields, "ZGAP", 1)[0] if "ZGAP" in fields else 0.0))
    else:
        steps += _numbers(fields, "ZDELTA", 1)
    if not all(0.01 < step < 1000.0 for step in steps):
        _refuse("expected voxels of 0.01 to 1000 mm from XYFOV and ZDELTA")
    return steps


def _first_mm(
    fields: Mapping[str, list[str]], shape: tuple[int, int, int], steps_mm: Sequence[float], starts: Sequence[str]
) -> list[float]:
    """Position of the centre of the first voxel along each axis of the grid, in the direction of the frame.

    A distance counts towards the side that it names, or by default towards the side where the axis starts. Without any
    distance the volume is centred.
    """
    halves = [0.5 * (n - 1) * step for n, step in zip(shape, steps_mm, strict=True)]
    first = list(zip(halves, starts, strict=True))
    for name in fields["where"]:
        axes = (2,) if name == "ZFIRST" else (0, 1, 2)
        for axis, value, word in zip(axes, _numbers(fields, name, len(axes)), fields[name], strict=True):
            start = starts[axis]
            side = word[-1] if word[-1] in _DIRECTIONS else start
            if name == "XYZOFF":
                first[axis] = (halves[axis] + value, start)
            elif _DIRECTIONS[side][0] == _DIRECTIONS[start][0]:
                first[axis] = (value, side)
            else:  # like AFNI, if the named side does not belong to the axis
                first[axis] = (value, start)
    return [_DIRECTIONS[side][1] * value for value, side in first]


def _slice_order(fields: Mapping[str, list[str]], n: int) -> tuple[int, ...]:
    words = fields.get("ZORDER") or ["alt"]
    if words[0] == "seq":
        return tuple(range(n))
    if words[0] == "alt":
        return (*range(0, n, 2), *range(1, n, 2))
    numbers = [int(word) for word in words[1:] if re.match(r"^\d{1,4}$", word)]
    first = min(numbers, default=0)  # senders count from 0 or from 1
    order = tuple(number - first for number in numbers)
    if words[0] != "explicit" or sorted(order) != list(range(n)):
        _refuse("expected alt, seq, or explicit and the number of each slice after ZORDER")
    return order


def _slice_times(fields: Mapping[str, list[str]], n: int, tr_s: float) -> NDArray[np.float64] | None:
    """Seconds after the volume's start, from ``TPATTERN``; None if they are impossible.

    A pattern names an order of slices at equal intervals: ``alt+z`` is 0, 2, 4, ..., 1, 3, ...; a ``2`` begins with the
    second slice, a ``-`` with the last (AFNI's README.realtime and to3d's help).
    """
    words = fields.get("TPATTERN", [])
    order = _PATTERNS[words[0]](n) if len(words) == 1 and words[0] in _PATTERNS else None
    if order is not None:
        return np.asarray(np.argsort(order) * tr_s / n, dtype=np.float64)
    if words[:1] != ["explicit"] or len(words) != n + 1 or not all(_NUMBER.match(word) for word in words[1:]):
        return None
    times = np.array([float(word.rstrip("RLAPIS")) for word in words[1:]])
    times_s = times - times.min()
    if times_s.max() > tr_s:  # Dimon has sent milliseconds
        times_s = times_s / 1000.0
    return times_s if math.isfinite(float(times_s.max())) and times_s.max() <= tr_s else None
