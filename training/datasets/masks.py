"""Which voxels betas are of, as a digest: two masks are the same only if voxels and place are.

Letters: X, Y, Z axes of the image.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def digest_of_mask(mask_XYZ: NDArray[np.bool_], affine: NDArray[np.float64]) -> str:
    """sha256 of shape, voxels, and the affine to a thousandth of a millimetre."""
    place = np.round(np.asarray(affine, np.float64), 3) + 0.0  # no negative zeros
    sha = hashlib.sha256(f"{mask_XYZ.shape} {place.tolist()}".encode())
    sha.update(np.packbits(mask_XYZ).tobytes())
    return sha.hexdigest()
