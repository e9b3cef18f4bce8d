"""The fields of NIfTI-1 and NIfTI-2 headers, and what the standard derives from them: an affine, slice times.

Knows nothing of files. These are the fields of nifti1.h and nifti2.h that are read. The results equal nibabel's to the
bit, so that a console does not need nibabel.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

_NIFTI1: dict[str, tuple[str, int]] = {
    "dim_info": ("u1", 39),
    "dim": ("8i2", 40),
    "datatype": ("i2", 70),
    "slice_start": ("i2", 74),
    "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "slice_end": ("i2", 120),
    "slice_code": ("u1", 122),
    "xyzt_units": ("u1", 123),
    "slice_duration": ("f4", 132),
    "qform_code": ("i2", 252),
    "sform_code": ("i2", 254),
    "quatern": ("3f4", 256),
    "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280),
    "magic": ("S4", 344),
}
_NIFTI2: dict[str, tuple[str, int]] = {
    "magic": ("S4", 4),
    "datatype": ("i2", 12),
    "dim": ("8i8", 16),
    "pixdim": ("8f8", 104),
    "vox_offset": ("i8", 168),
    "scl_slope": ("f8", 176),
    "scl_inter": ("f8", 184),
    "slice_duration": ("f8", 208),
    "slice_start": ("i8", 224),
    "slice_end": ("i8", 232),
    "qform_code": ("i4", 344),
    "sform_code": ("i4", 348),
    "quatern": ("3f8", 352),
    "qoffset": ("3f8", 376),
    "srow": ("(3,4)f8", 400),
    "slice_code": ("i4", 496),
    "xyzt_units": ("i4", 500),
    "dim_info": ("u1", 524),
}
_FIELDS = {348: _NIFTI1, 540: _NIFTI2}
_DTYPES = {
    size: np.dtype(
        {
            "names": list(fields),
            "formats": [code for code, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": size,
        }
    )
    for size, fields in _FIELDS.items()
}
_ALL, _EVEN, _ODD = slice(None), slice(0, None, 2), slice(1, None, 2)
_PASSES = {
    1: [(_ALL, False)],
    2: [(_ALL, True)],
    3: [(_EVEN, False), (_ODD, False)],
    4: [(_EVEN, True), (_ODD, True)],
    5: [(_ODD, False), (_EVEN, False)],
    6: [(_ODD, True), (_EVEN, True)],
}
"""slice_code → the slices of each pass, and whether they count from the last slice."""
_NEAR_180 = {348: 3 * float(np.finfo(np.float32).eps), 540: 3 * float(np.finfo(np.float64).eps)}  # a w² below it is 0


def header_fields(block: bytes, byte_order: Literal["<", ">"]) -> NDArray[Any]:
    """The fields of a header of 348 or 540 bytes, by name. A copy, which may be corrected."""
    return np.frombuffer(block, _DTYPES[len(block)].newbyteorder(byte_order)).copy().reshape(())


def best_affine(fields: NDArray[Any]) -> Float64Array:
    """(4, 4) voxel → mm: the sform if there is one, else the qform, else from sizes alone with x to the left.

    Raises ValueError for an invalid qform: a quaternion longer than 1, negative sizes, a factor other than ±1.
    """
    affine = np.eye(4)
    if fields["sform_code"] != 0:
        affine[:3] = fields["srow"]
    elif fields["qform_code"] != 0:
        sizes, factor = fields["pixdim"][1:4].copy(), fields["pixdim"][0]
        rotation = _rotation(fields["quatern"], _NEAR_180[fields.dtype.itemsize])
        if (sizes < 0).any() or factor not in (-1, 1):
            raise ValueError("expected positive sizes and a factor of 1 or -1")
        sizes[2] *= factor
        affine[:3, :3] = np.dot(rotation, np.diag(sizes))
        affine[:3, 3] = fields["qoffset"]
    else:
        sizes = fields["pixdim"][1:4].copy()
        sizes[0] *= -1
        affine[:3, :3] = np.diag(sizes)
        affine[:3, 3] = -((fields["dim"][1:4] - 1) / 2.0) * sizes
    return affine


def _rotation(quatern: NDArray[Any], near_180: float) -> NDArray[Any]:
    """(3, 3) of the unit quaternion whose last three numbers are stated, in the longest float type."""
    bcd = quatern.astype(np.longdouble)
    x, y, z = bcd
    w2 = 1.0 - bcd @ bcd
    if w2 < 0.0 and not abs(w2) < near_180:
        raise ValueError("expected a quaternion of length 1")
    w = np.longdouble(0.0) if abs(w2) < near_180 else np.sqrt(w2)
    s = 2.0 / (w * w + x * x + y * y + z * z)
    wx, wy, wz = w * (x * s), w * (y * s), w * (z * s)
    xx, xy, xz = x * (x * s), x * (y * s), x * (z * s)
    yy, yz, zz = y * (y * s), y * (z * s), z * (z * s)
    return np.array(
        [[1.0 - (yy + zz), xy - wz, xz + wy], [xy + wz, 1.0 - (xx + zz), yz - wx], [xz - wy, yz + wx, 1.0 - (xx + yy)]]
    )


def slice_times(fields: NDArray[Any], n_slices: int) -> Float64Array | None:
    """(Z,) time of each slice, in the header's unit; None if the header does not time each slice once."""
    passes, axis = _PASSES.get(int(fields["slice_code"])), int(fields["dim_info"]) >> 4 & 3
    if passes is None or axis == 0:
        return None
    length = int(fields["dim"][axis])
    first, last = int(fields["slice_start"]), int(fields["slice_end"]) or length - 1
    if first != 0 or last != n_slices - 1 or length > n_slices:  # slices at the ends have no times
        return None
    order = np.concatenate([np.arange(n_slices)[:: -1 if backwards else 1][one] for one, backwards in passes])
    return np.asarray(np.argsort(order) * float(fields["slice_duration"]), dtype=np.float64)
