"""A 4-D NIfTI written volume by volume, so that a run never has to fit into memory.

Knows nothing of sessions. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from mindsight.errors import BadVolume

GZIP_LEVEL = 1  # most of the time of a run is spent here; level 6 takes four times as long and saves a few percent


class NiftiWriter:
    """Takes one volume at a time; their number is in the header, which comes first in the file."""

    def __init__(self, file: gzip.GzipFile, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self._file, self.shape, self.dtype = file, shape, dtype.newbyteorder("<")

    def write(self, data_XYZ: NDArray[Any]) -> None:
        """Raises BadVolume for another shape, or a dtype that the file's cannot hold."""
        if data_XYZ.shape != self.shape or not np.can_cast(data_XYZ.dtype, self.dtype, casting="safe"):
            raise BadVolume(
                f"expected every volume of the run to be {self.shape} {self.dtype}, got {data_XYZ.shape}"
                f" {data_XYZ.dtype}",
                code="volume.shape_mismatch",
            )
        self._file.write(np.ascontiguousarray(data_XYZ.T, dtype=self.dtype).data)

    def write_missing(self) -> None:
        """Zeros; the tables beside the file mark the volume as missing."""
        self._file.write(bytes(int(np.prod(self.shape)) * self.dtype.itemsize))


@contextmanager
def nifti_writer(
    path: Path,
    shape: tuple[int, int, int],
    n_volumes: int | None,
    dtype: np.dtype[Any],
    affine: NDArray[np.float64],
    tr_s: float | None = None,
) -> Iterator[NiftiWriter]:
    """A gzipped NIfTI-1; ``n_volumes`` None makes it 3-D. The caller must write ``n_volumes`` volumes."""
    header: Any = Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_shape(shape if n_volumes is None else (*shape, n_volumes))
    header.set_data_dtype(dtype)
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm", "sec")
    if n_volumes is not None and tr_s is not None:
        header["pixdim"][4] = tr_s
    header["magic"], header["vox_offset"], header["scl_slope"], header["scl_inter"] = b"n+1", 352, 1, 0
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=0) as file,
    ):
        file.write(header.binaryblock + bytes(4))
        yield NiftiWriter(file, shape, dtype)
