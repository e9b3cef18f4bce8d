"""Masks of regions of interest: read from NIfTI, reduced to which voxels they hold and where these are.

Knows nothing of HTTP. Of a file nothing else is kept: no name, no description, no extension of its header.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np

from mindsight.errors import BadRequest, BadVolume, MindsightError
from mindsight.protocol.inputs import SetRoi
from mindsight.protocol.rois import RoiBaseline
from mindsight.scanner.formats.nifti import nifti_volumes, read_nifti_header
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from service.context import Gateway

MAX_ROI_BYTES = 32 * 1024 * 1024
FOLDER = "rois"


def declare(gateway: Gateway, session: str, name: str, mask: Volume, baseline: RoiBaseline) -> tuple[str, bool]:
    """Measure the region in this session from the next volume on. Returns the mask's digest, and whether it was
    declared so before."""
    digest = gateway.blobs.put(encode_volume(mask))
    declared = SetRoi(t=gateway.now(), name=name, mask=digest, baseline=baseline)
    appended = gateway.recorder(session).set_roi(declared, int(np.count_nonzero(mask.data)))
    return digest, appended.duplicate


def declare_known(gateway: Gateway, session: str, subject: str) -> None:
    """Declare the regions in the subject's folder, ``rois/<subject>/<name>.nii.gz`` of the data folder; a file that is
    no mask becomes a warning of the session."""
    for path in sorted((gateway.settings.data_dir / FOLDER / subject).glob("*.nii*")):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", path.name.partition(".")[0])[:32].lstrip("_-") or "roi"
        try:
            declare(gateway, session, name, read_mask(path), RoiBaseline())
        except MindsightError as error:
            gateway.recorder(session).warn("roi.file", f"region {name} is left out: {error}", "warning", None, None)


def read_mask(path: Path) -> Volume:
    """The voxels above 0 in a NIfTI file of one volume. Raises BadRequest (``roi.mask``)."""
    try:
        header = read_nifti_header(path)
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
