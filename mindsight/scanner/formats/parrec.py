"""Philips PAR/REC (V3 to V4.2): one volume per pair (``Dump-NNNN``) or a whole run in one.

Knows nothing of other files, and only the header fields that par_header.py lets pass.

Geometry is in par_geometry.py. Values are Philips' floating-point ones, FP = (PV × RS + RI) / (RS × SS), which are
comparable between slices, volumes and runs, unlike the values on the console's screen. REC files are little-endian. PAR
files state neither slice times nor any acquisition time except that of the examination; both stay unknown.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Echo, choose
from mindsight.scanner.formats.geometry import stack
from mindsight.scanner.formats.par_geometry import PSL_TO_RAS, affine_ras
from mindsight.scanner.formats.par_header import ParHeader, read_par, refuse
from mindsight.scanner.timing import Agreed, Pace, agreed_tr, pace_of
from mindsight.volume import Volume
from mindsight.volume_bounds import MAX_SIDE, MAX_VOXELS, is_tr

Float64Array = NDArray[np.float64]

MAGNITUDE_TYPE = 0
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.1, 50.0

_ONE_OF_EACH = ("bits", "columns", "rows", "orientation", "spacing_x", "spacing_y", "thickness", "gap")
_ONE_ANGLE = ("angulation_ap", "angulation_fh", "angulation_rl")
_NOT_DYNAMICS = {
    "phase": "cardiac phase",
    "b_value": "b value",
    "gradient": "gradient",
    "label": "label",
}
_CENTRE = ("centre_ap", "centre_fh", "centre_rl")


@dataclass(frozen=True, slots=True)
class ParRec:
    """The content of a pair. Its volumes are read one at a time.

    dynamics : numbers of the complete volumes in the scanner's count, ascending
    stated_s : repetition time in the header; None if unstated. In a 3-D sequence it is that of an excitation, and a
        volume needs many
    begins_s : start of each of the dynamics, in seconds after the first
    echo, echoes : the echo of these volumes, and all echoes of the pair
    notes : for the operator: what was left out, and what is unknown
    """

    shape: tuple[int, int, int]
    affine: Float64Array
    stated_s: float | None
    begins_s: tuple[float, ...]
    dynamics: tuple[int, ...]
    echo: Echo
    echoes: tuple[Echo, ...]
    notes: tuple[str, ...]
    _rec: Path
    _dtype: str
    _offsets_TZ: NDArray[np.int64]
    _slope_TZ: Float64Array
    _intercept_TZ: Float64Array

    @property
    def n_volumes(self) -> int:
        """TRs from the first volume to the last, missing volumes included."""
        return self.dynamics[-1] - self.dynamics[0] + 1

    @property
    def pace(self) -> Pace | None:
        return pace_of(dict(zip(self.dynamics, self.begins_s, strict=True)))

    @property
    def states_tr(self) -> bool:
        """Whether the header or the clock states a repetition time."""
        return is_tr(self.stated_s) or self.pace is not None

    def agreed(self, declared_s: float | None = None) -> Agreed:
        """Raises BadVolume, see ``agreed_tr``."""
        return agreed_tr({"in the header": self.stated_s}, self.pace, declared_s)

    def volumes(self, tr_s: float, run: int, first_index: int = 0) -> Iterator[Volume]:
        """The volumes in the order of the dynamics; a missing number is a gap in ``index``. Raises BadVolume."""
        n_columns, n_rows, n_slices = self.shape
        image_bytes = n_columns * n_rows * np.dtype(self._dtype).itemsize
        for t, dynamic in enumerate(self.dynamics):
            raw = _images(self._rec, self._offsets_TZ[t], image_bytes)
            planes_ZYX = np.frombuffer(raw, self._dtype).reshape(n_slices, n_rows, n_columns)
            with np.errstate(all="ignore"):  # checked below
                scaled_ZYX = planes_ZYX * self._slope_TZ[t][:, None, None] + self._intercept_TZ[t][:, None, None]
            largest = float(np.abs(scaled_ZYX).max())
            if not largest <= float(np.finfo(np.float32).max):  # true for NaN too
                raise BadVolume(
                    f"expected rescaled values that fit float32, got {largest:g}: the PAR file's slopes are damaged; "
                    "export it again",
                    code="parrec.scaling",
                    index=first_index + dynamic - self.dynamics[0],
                )
            yield Volume(
                data=stack(scaled_ZYX.astype(np.float32)),
                affine=self.affine,
                tr_s=tr_s,
                run=run,
                index=first_index + dynamic - self.dynamics[0],
            )


def is_parrec(path: Path) -> bool:
    return path.suffix.lower() in (".par", ".rec")


def par_files(files: Sequence[Path]) -> list[Path]:
    """The PAR file of each pair among the files, in order. Raises BadVolume for a REC file without a PAR file."""
    return list(dict.fromkeys(_partner(path, ".par") for path in files if is_parrec(path)))


def read_parrec(path: Path, echo: int | None = None) -> ParRec:
    """The pair of a PAR or REC file: its header is read and checked, its values are read later.

    echo : number of the echo to read; the first by default

    Raises BadVolume if a file of the pair is missing, truncated or damaged, or if it has no magnitudes, several images
    of a slice in one dynamic (cardiac phases, diffusion), or slices that are not a stack.
    """
    par, rec = _partner(path, ".par"), _partner(path, ".rec")
    header = read_par(par)
    table = header.table
    magnitude_I = table["type"] == MAGNITUDE_TYPE
    if not magnitude_I.any():
        refuse("no_magnitude", "expected magnitude images, got none; send the magnitudes of the run")
    echoes = _echoes(table, magnitude_I)
    chosen = choose(echoes, echo)
    n_others = int((~magnitude_I).sum())
    magnitude_I &= table["echo"] == chosen.number
    image_bytes = _check_sizes(header, rec)
    for name, word in _NOT_DYNAMICS.items():
        if name in table and len(np.unique(table[name][magnitude_I])) > 1:
            refuse("layout", f"expected one {word} per slice and dynamic, got several; export one")
    rows_TZ, dynamics, notes = _volumes(header, np.flatnonzero(magnitude_I), n_others)
    shape = (int(table["columns"][0]), int(table["rows"][0]), rows_TZ.shape[1])
    if shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        refuse("shape", f"expected at most {MAX_VOXELS} voxels, got {shape}")
    affine, reversed_slices = _geometry(header, rows_TZ[0])
    if reversed_slices:
        rows_TZ = rows_TZ[:, ::-1]
    scale = table["scale_slope"][rows_TZ], table["rescale_slope"][rows_TZ]
    if (scale[0] == 0.0).any() or (scale[1] == 0.0).any():
        refuse("slope", "expected slopes other than zero; the file is damaged, export it again")
    return ParRec(
        shape=shape,
        affine=affine,
        stated_s=header.general["tr_ms"][0] / 1000.0 if header.general.get("tr_ms") else None,
        begins_s=tuple(table["begin_s"][rows_TZ[:, 0]].tolist()),
        dynamics=dynamics,
        echo=chosen,
        echoes=echoes,
        notes=notes,
        _rec=rec,
        _dtype="<u1" if image_bytes == shape[0] * shape[1] else "<u2",
        _offsets_TZ=table["index"][rows_TZ].astype(np.int64) * image_bytes,
        _slope_TZ=1.0 / scale[0],
        _intercept_TZ=table["rescale_intercept"][rows_TZ] / (scale[0] * scale[1]),
    )


def _echoes(table: Mapping[str, NDArray[np.float64]], magnitude_I: NDArray[np.bool_]) -> tuple[Echo, ...]:
    """The echoes by number, with their times if the table has them."""
    found = []
    for number in np.unique(table["echo"][magnitude_I]):
        time_ms = float(np.median(table["echo_ms"][magnitude_I & (table["echo"] == number)]))
        found.append(Echo(int(number), time_ms if time_ms > 0.0 else None))
    return tuple(found)


def _partner(path: Path, suffix: str) -> Path:
    """The file of the pair with this suffix, in upper or lower case."""
    if path.suffix.lower() == suffix:
        return path
    for spelling in (suffix, suffix.upper(), suffix.capitalize()):
        if path.with_suffix(spelling).is_file():
            return path.with_suffix(spelling)
    refuse(
        "no_pair", f"expected a {suffix.upper()} file of the same name beside, got none; copy both files of the pair"
    )


def _check_sizes(header: ParHeader, rec: Path) -> int:
    """Bytes of one image. Raises BadVolume unless every image of the table has its own position in the REC file."""
    table = header.table
    for name in _ONE_OF_EACH:
        if len(np.unique(table[name])) != 1:
            refuse("layout", "expected images of one size and orientation, got several; export one stack")
    columns, rows, bits = (int(table[name][0]) for name in ("columns", "rows", "bits"))
    if bits not in (8, 16) or not (1 <= columns <= MAX_SIDE and 1 <= rows <= MAX_SIDE):
        refuse("shape", f"expected 8 or 16 bits and sides of 1 to {MAX_SIDE}, got {bits} and {columns}×{rows}")
    image_bytes, index_I = columns * rows * bits // 8, table["index"]
    if index_I.min() < 0 or len(np.unique(index_I)) != len(index_I):
        refuse("layout", "expected each image at its own offset in the REC file; the file is damaged, export it again")
    try:
        got = rec.stat().st_size
    except OSError as error:
        raise BadVolume(f"the REC file cannot be read: {error.strerror}", code="parrec.unreadable") from None
    expected = (int(index_I.max()) + 1) * image_bytes
    if got < expected:
        refuse("truncated", f"expected {expected} bytes of REC data, got {got}; wait until the file is whole")
    if got >= expected + image_bytes:
        refuse("trailing", f"expected {expected} bytes of REC data, got {got}; the pair's files do not belong together")
    return image_bytes


def _volumes(
    header: ParHeader, magnitudes: NDArray[np.intp], n_left: int
) -> tuple[NDArray[np.intp], tuple[int, ...], tuple[str, ...]]:
    """Rows of the table by volume and slice, the volumes' numbers, and notes. An incomplete last volume is left out."""
    table = header.table
    members: dict[int, dict[int, int]] = defaultdict(dict)
    for row in magnitudes.tolist():
        dynamic, slice_number = int(table["dynamic"][row]), int(table["slice"][row])
        if slice_number in members[dynamic]:
            refuse("layout", "expected each slice of a dynamic once, got one twice; export one image type and one scan")
        members[dynamic][slice_number] = row
    stated = header.general.get("slices", ())
    slices = sorted({slice_number for volume in members.values() for slice_number in volume})
    n_slices = int(stated[0]) if len(stated) == 1 else len(slices)
    if not 1 <= n_slices <= MAX_SIDE or slices != list(range(1, n_slices + 1)):
        refuse("incomplete", f"expected slices 1 to {n_slices}, got {len(slices)}; wait until the volume is whole")
    notes = ["slice times are unknown: PAR files do not state them"]
    if n_left:
        notes.append(f"chose {len(magnitudes)} magnitude images; left out {n_left} others (phase, real or imaginary)")
    numbers = sorted(members)
    if len(members[numbers[-1]]) < n_slices and len(numbers) > 1:
        notes.append(f"left out the last volume, which has {len(members[numbers.pop()])} of {n_slices} slices")
    for number in numbers:
        if len(members[number]) < n_slices:
            got = len(members[number])
            refuse("incomplete", f"expected {n_slices} slices in dynamic {number}, got {got}; the run is damaged")
    rows_TZ = np.array(
        [[members[number][slice_number] for slice_number in slices] for number in numbers], dtype=np.intp
    )
    return rows_TZ, tuple(numbers), tuple(notes)


def _geometry(header: ParHeader, rows_Z: NDArray[np.intp]) -> tuple[Float64Array, bool]:
    """(4, 4) voxel → RAS+ mm, with y from the last row to the first as in ``stack``; and whether slices are reversed.

    ``affine_ras`` assumes that the slices run along the normal of their plane. The images' own centres show whether
    they do; some V4 writers state them as (rl, ap, fh), according to dcm2niix's notes on PAR/REC.
    """
    table, general = header.table, header.general
    if len(general.get("angulation", ())) != 3 or len(general.get("off_centre", ())) != 3:
        refuse("no_geometry", "expected the PAR file to state angulation and off-centre of the middle slice")
    if any(len(np.unique(table[name][rows_Z])) != 1 for name in _ONE_ANGLE):
        refuse("layout", "expected parallel slices, got several angulations; export one stack")
    spacing_mm = [table["spacing_x"][0], table["spacing_y"][0], table["thickness"][0] + table["gap"][0]]
    if not all(MIN_VOXEL_MM <= mm <= MAX_VOXEL_MM for mm in spacing_mm) or table["orientation"][0] not in (1, 2, 3):
        refuse("no_geometry", f"expected voxels of {MIN_VOXEL_MM} to {MAX_VOXEL_MM} mm in a known orientation")
    shape = (int(table["columns"][0]), int(table["rows"][0]), len(rows_Z))
    affine = affine_ras(
        shape, spacing_mm, int(table["orientation"][0]), general["angulation"], np.array(general["off_centre"])
    )
    flip = np.eye(4)
    flip[1, 1], flip[1, 3] = -1.0, table["rows"][0] - 1.0

    centre_Z3 = np.stack([table[name][rows_Z] for name in _CENTRE], axis=1)
    span_mm = centre_Z3[-1] - centre_Z3[0]
    distance_mm = float(np.linalg.norm(span_mm))
    if distance_mm < 1e-3:  # unstated, or a single slice
        return affine @ flip, False
    normal = PSL_TO_RAS[:3, :3].T @ affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    for along in (span_mm, span_mm[[1, 2, 0]]):
        cosine = float(along @ normal) / distance_mm
        if abs(cosine) > 0.95:
            return affine @ flip, cosine < 0.0
    refuse("no_geometry", "expected the slices' centres to lie along their normal; the header contradicts itself")


def _images(rec: Path, offsets_Z: NDArray[np.int64], image_bytes: int) -> bytes:
    """The stored values of the slices, one after the other."""
    parts = []
    try:
        with rec.open("rb") as file:
            for offset in offsets_Z.tolist():
                file.seek(offset, os.SEEK_SET)
                parts.append(file.read(image_bytes))
    except OSError as error:
        raise BadVolume(f"the REC file cannot be read: {error.strerror}", code="parrec.unreadable") from None
    raw = b"".join(parts)
    if len(raw) != image_bytes * len(parts):
        refuse("truncated", "expected a whole REC file, got one that has become shorter; copy it again")
    return raw
