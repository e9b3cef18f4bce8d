"""NIfTI-1 and NIfTI-2, 3-D or 4-D, gzipped or not: the header is checked first, then data is read by volume.

Knows nothing of folders or series. Of a JSON file beside the image it takes what ``sidecar.py`` lets pass: its slice
times go before the header's, which few converters fill, and its repetition time before one without a unit.

A header may claim anything and a gzip stream may hold anything, so no more is ever read than one volume of a size that
``Volume`` allows.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.formats.nifti_fields import best_affine, header_fields, slice_times
from mindsight.scanner.formats.sidecar import Sidecar, read_sidecar
from mindsight.scanner.timing import Agreed, agreed_tr, jumps_of, jumps_text, pace_of, why_not_times
from mindsight.volume import Volume
from mindsight.volume_bounds import MAX_SIDE, MAX_TR_S, MAX_VOXELS, is_tr, same_tr

MAX_EXTENSION_BYTES = 1024 * 1024
MAX_RUN_BYTES = 16 * 1024**3
MAX_GZIP_RATIO = 128  # of measured images one is rarely above 5; one that holds little may be anything
MIN_GZIP_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.1, 20.0
MIN_MEANT_S = 0.2  # smallest repetition time that a number in a wrong unit is taken for

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_SECONDS = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}  # xyzt_units & 0x38; 0 is "unknown"
_MAGIC = {348: b"n+1", 540: b"n+2"}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """What a NIfTI file holds.

    stated_s : the repetition times that header and JSON file state, by where
    slice_times_Z : those of the JSON file and of the header, as stated, the ones to be believed first
    moments_s : when each volume began, by the JSON file; empty if it does not state them
    echo_time_ms : by the JSON file
    missing : volumes that are no measurement, as Mindsight's archives note them
    notes : what was understood otherwise than it is written, for a person
    """

    shape: tuple[int, int, int]
    n_volumes: int
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    stated_s: dict[str, float]
    slope: float
    intercept: float
    offset: int
    slice_times_Z: tuple[NDArray[np.float64], ...]
    missing: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    moments_s: tuple[float, ...] = ()
    echo_time_ms: float | None = None

    def agreed(self, declared_s: float | None = None) -> Agreed:
        """The repetition time, and notes about the timing. Raises BadVolume, see ``agreed_tr``."""
        clock: dict[int, float | None] = dict(enumerate(self.moments_s))
        pace = pace_of(clock) if len(clock) == self.n_volumes else None
        agreed = agreed_tr(self.stated_s, pace, declared_s)
        jumps_s = jumps_of(clock, agreed.tr_s) if pace is not None and pace.steady else {}
        notes = (*agreed.notes, *([jumps_text(jumps_s)] if jumps_s else []), *self.notes)
        reasons = [why_not_times(times_Z, self.shape[2], agreed.tr_s) for times_Z in self.slice_times_Z]
        if reasons and reasons[0] is not None:
            notes = (*notes, f"slice times are ignored: {reasons[0]}")
        return Agreed(agreed.tr_s, notes)

    def slice_times_s(self, tr_s: float) -> NDArray[np.float64] | None:
        """Those that can be; None if there are none."""
        fit = (times_Z for times_Z in self.slice_times_Z if why_not_times(times_Z, self.shape[2], tr_s) is None)
        return next(fit, None)

    @property
    def volume_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def is_nifti(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_packed(path: Path) -> bool:
    """With gzip, by its first bytes."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def read_nifti_header(path: Path) -> NiftiHeader:
    """Raises BadVolume if the header is not one of a volume or a run."""
    with _opened(path) as stream:
        return _header(stream, path)


def check_whole(path: Path) -> NiftiHeader:
    """The header of a file that holds all it promises, which only reading it to its end can show.

    Raises BadVolume: a bad header, less data than it promises, or more.
    """
    with _opened(path) as stream:
        header = _header(stream, path)
        left = header.offset - stream.tell() + header.n_volumes * header.volume_bytes
        while left > 0:
            left -= len(_read(stream, min(left, CHUNK_BYTES), "data"))
        _check_end(stream, header)
        return header


def nifti_volumes(path: Path, tr_s: float, run: int, first_index: int = 0) -> Iterator[Volume]:
    """The file's volumes in order, one in memory at a time; one that is missing is a gap in ``index``.

    Raises BadVolume: a bad header, less data than it promises, or more.
    """
    with _opened(path) as stream:
        header = _header(stream, path)
        slice_times_s = header.slice_times_s(tr_s)
        _read(stream, header.offset - stream.tell(), "header")
        for k in range(header.n_volumes):
            raw = _read(stream, header.volume_bytes, f"volume {k} of {header.n_volumes}")
            if k in header.missing:
                continue
            yield Volume(
                data=_values(raw, header),
                affine=header.affine,
                tr_s=tr_s,
                run=run,
                index=first_index + k,
                slice_times_s=slice_times_s,
            )
        _check_end(stream, header)


def _check_end(stream: BinaryIO, header: NiftiHeader) -> None:
    if stream.read(1):
        _refuse("trailing", f"expected the file to end after {header.n_volumes} volumes, got more data")


def _refuse(what: str, message: str) -> NoReturn:
    raise BadVolume(message, code=f"nifti.{what}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            magic = file.read(2)
            file.seek(0)
            # GzipFile inflates only what is asked for, and checks length and checksum at the end.
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if magic == _GZIP_MAGIC else file
        return
    except (EOFError, zlib.error, gzip.BadGzipFile):
        message = "expected a whole gzip file, got one that is damaged or cut off; copy it again"
    except OSError as error:
        message = f"the file cannot be read: {error.strerror or type(error).__name__}"
    _refuse("unreadable", message)


def _read(stream: BinaryIO, n_bytes: int, what: str) -> bytes:
    data = stream.read(n_bytes)
    if len(data) != n_bytes:
        _refuse("truncated", f"{what}: expected {n_bytes} bytes, got {len(data)}; copy the file again")
    return data


def _header(stream: BinaryIO, path: Path) -> NiftiHeader:
    block = _read(stream, 348, "header")
    little, big = int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")
    sizes: dict[int, Literal["<", ">"]] = {little: "<", big: ">"}
    size = next((size for size in _MAGIC if size in sizes), None)
    if size is None:
        _refuse("not_nifti", "expected a NIfTI-1 or NIfTI-2 file, got something else")
    raw = header_fields(block + _read(stream, size - len(block), "header"), sizes[size])
    if bytes(raw["magic"])[:3] != _MAGIC[size]:
        _refuse("not_nifti", "expected header and data in one file (.nii); convert .hdr/.img pairs")

    dim, n_dims = [int(n) for n in raw["dim"]], int(raw["dim"][0])
    if n_dims not in (3, 4):
        _refuse("shape", f"expected 3 or 4 dimensions, got {n_dims}")
    x, y, z, t = dim[1], dim[2], dim[3], dim[4] if n_dims == 4 else 1
    if min(x, y, z, t) < 1 or max(x, y, z) > MAX_SIDE or x * y * z > MAX_VOXELS or t > 100_000:
        _refuse("shape", f"expected sides of 1 to {MAX_SIDE} voxels and at least one volume, got {(x, y, z, t)}")
    code = _DTYPES.get(int(raw["datatype"]))
    if code is None:
        _refuse("dtype", f"expected integers or floats, got NIfTI data type {int(raw['datatype'])}")
    most = min(MAX_RUN_BYTES, max(MIN_GZIP_BYTES, MAX_GZIP_RATIO * path.stat().st_size))
    if x * y * z * t * np.dtype(code).itemsize > most:  # a gzip of little may promise and hold it all
        _refuse("too_large", f"expected a run of at most {most} bytes in a file of this size")
    beside = read_sidecar(path, z)
    stated_s, notes = _stated_s(raw, n_dims, beside)
    times = (beside.slice_times_s, _slice_times(raw, z))
    missing = beside.missing.intersection(range(t))
    if len(missing) == t:
        _refuse("empty", "expected volumes, got a file beside the image that calls all of them missing")
    return NiftiHeader(
        shape=(x, y, z),
        n_volumes=t,
        dtype=np.dtype(code).newbyteorder(sizes[size]),
        affine=_affine(raw),
        stated_s=stated_s,
        **_scaling(raw),
        offset=_offset(raw, size),
        slice_times_Z=tuple(times_Z for times_Z in times if times_Z is not None),
        missing=missing,
        notes=(*notes, *beside.notes),
        moments_s=beside.moments_s,
        echo_time_ms=beside.echo_time_ms,
    )


def _offset(raw: Any, header_bytes: int) -> int:
    offset = float(raw["vox_offset"])
    if not (header_bytes + 4 <= offset <= header_bytes + MAX_EXTENSION_BYTES and offset == int(offset)):
        _refuse("offset", f"expected the data to start soon after the header, got byte {offset:g}")
    return int(offset)


def _scaling(raw: Any) -> dict[str, float]:
    """0 is the standard's "no scaling", and not a number is what programs write for it."""
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0.0 or math.isnan(slope):
        return {"slope": 1.0, "intercept": 0.0}
    if math.isinf(slope) or math.isinf(intercept):
        _refuse("slope", f"expected a finite slope and intercept, got {slope} and {intercept}")
    if math.isnan(intercept):
        intercept = 0.0
    return {"slope": slope, "intercept": intercept}


def _affine(raw: Any) -> NDArray[np.float64]:
    if float(raw["pixdim"][0]) == 0.0:
        raw["pixdim"][0] = 1.0  # "0 means 1", nifti1.h
    try:
        with np.errstate(all="ignore"):
            affine = best_affine(raw)
            voxel_mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
            volume_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    except (ArithmeticError, ValueError):
        _refuse("affine", "expected an affine from sform or qform, got values that make none")
    if not (
        np.isfinite(affine).all() and volume_mm3 > 0 and all(MIN_VOXEL_MM <= mm <= MAX_VOXEL_MM for mm in voxel_mm)
    ):
        _refuse("affine", f"expected a finite affine with voxels of {MIN_VOXEL_MM} to {MAX_VOXEL_MM} mm")
    return affine


def _stated_s(raw: Any, n_dims: int, beside: Sidecar) -> tuple[dict[str, float], list[str]]:
    """The stated repetition times by their source, and notes.

    What a header says without a unit, or of a 3-D file, writers may have filled with anything: the JSON file is right.
    """
    tr_s, notes = _zoom_s(raw, n_dims)
    stated = {} if beside.tr_s is None else {"in the JSON file beside": beside.tr_s}
    is_weak = n_dims == 3 or int(raw["xyzt_units"]) & 0x38 == 0
    if tr_s is not None and not (stated and is_weak):
        stated["in the header"] = tr_s
    elif tr_s is not None and beside.tr_s is not None and not same_tr(tr_s, beside.tr_s):
        notes.append(f"TR {beside.tr_s:g} s by the JSON file beside it; the header states {tr_s:g} without a unit")
    return stated, notes


def _zoom_s(raw: Any, n_dims: int) -> tuple[float | None, list[str]]:
    """The header's repetition time. Libraries write 1 without a unit if it was not set."""
    unit, zoom = int(raw["xyzt_units"]) & 0x38, float(raw["pixdim"][4])
    if unit not in _SECONDS or (n_dims == 3 and unit == 0) or not (math.isfinite(zoom) and zoom > 0.0):
        return None, []
    tr_s = round(zoom * _SECONDS[unit], 6)  # float32 in the file
    if zoom == 1.0 and not (is_tr(tr_s) and unit):
        return None, [] if n_dims == 3 else ["the header's repetition time is 1 by default, which states none"]
    if is_tr(tr_s):
        return tr_s, []
    meant = [round(zoom * scale, 6) for scale in (1.0, 1e-3, 1e-6) if MIN_MEANT_S <= zoom * scale < MAX_TR_S]
    if not meant:
        return None, []
    return meant[0], [f"the header states a repetition time of {tr_s:g} s; its unit is wrong, taken as {meant[0]:g} s"]


def _slice_times(raw: Any, n_slices: int) -> NDArray[np.float64] | None:
    if int(raw["slice_code"]) == 0 or not float(raw["slice_duration"]) > 0.0:
        return None
    times = slice_times(raw, n_slices)
    if times is None:
        return None
    scale = _SECONDS.get(int(raw["xyzt_units"]) & 0x38, 1.0)
    times_s = times * scale
    return times_s if np.isfinite(times_s).all() else None


def _values(raw: bytes, header: NiftiHeader) -> NDArray[Any]:
    values = np.frombuffer(raw, header.dtype).reshape(header.shape, order="F")
    if header.slope == 1.0 and header.intercept == 0.0:
        return values.astype(header.dtype.newbyteorder("="), copy=False)
    with np.errstate(all="ignore"):  # what leaves float32 becomes infinite, and is censored like any spike
        return (values * np.float64(header.slope) + np.float64(header.intercept)).astype(np.float32)
