"""Masks of regions of interest, read from NIfTI and reduced to which voxels they hold and where these are.

Knows nothing of HTTP or of sessions. It imports numpy: the gateway imports it in the thread that reads the first mask.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from mindsight.errors import BadRequest, BadVolume
from mindsight.scanner.formats.nifti import nifti_volumes, read_nifti_header
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from service.nifti import nifti_bytes

MAX_ROI_VOXELS = 8 * 1024 * 1024  # a gzip of little may promise more


def read_mask(path: Path) -> Volume:
    """The voxels above 0 in a NIfTI file of one volume. Raises BadRequest (``roi.mask``)."""
    try:
        header = read_nifti_header(path)
        if math.prod(header.shape) > MAX_ROI_VOXELS:
            raise BadRequest(
                f"expected a mask on the grid of the volumes, at most {MAX_ROI_VOXELS} voxels, got one of"
                f" {' x '.join(map(str, header.shape))}: resample it to a volume",
                code="roi.mask",
            )
        if header.n_volumes != 1:
            raise BadRequest(f"expected a mask of one volume, got {header.n_volumes}", code="roi.mask")
        volume = next(nifti_volumes(path, tr_s=1.0, run=1))
    except BadVolume as error:
        raise BadRequest(f"expected a mask as NIfTI: {error}", code="roi.mask") from None
    inside = np.nan_to_num(volume.data, nan=0.0) > 0
    if not inside.any() or inside.all():
        raise BadRequest(
            f"expected a mask that is above 0 in some voxels, got {int(inside.sum())} of {inside.size}",
            code="roi.mask",
        )
    return Volume(data=inside.astype(np.uint8), affine=header.affine, tr_s=1.0, run=1, index=0)


def mask_of(content: bytes) -> Volume:
    """``read_mask`` of a file's content."""
    with tempfile.NamedTemporaryFile(suffix=".nii") as file:
        file.write(content)
        file.flush()
        return read_mask(Path(file.name))


def payload_of(mask: Volume) -> bytes:
    """The mask as the store keeps it."""
    return encode_volume(mask)


def file_of(mask: Volume) -> bytes:
    """The mask as a NIfTI file, with no name or description."""
    return nifti_bytes(mask.data, mask.affine, intent="region")
