"""Masks of regions of interest: read from NIfTI, reduced to which voxels they hold and where these are.

Knows nothing of HTTP. A subject's own lie in ``rois/<subject>/`` of the data folder, where a person may put files too:
``<name>.nii`` or ``<name>.nii.gz``. Of a file that is sent nothing else is kept: no name, no description, no extension
of its header.
"""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from mindsight.errors import BadRequest, BadVolume, MindsightError, NotFound
from mindsight.files.durable import write_durably
from mindsight.protocol.inputs import SetRoi
from mindsight.protocol.rois import RoiBaseline
from mindsight.scanner.formats.nifti import nifti_volumes, read_nifti_header
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from service.context import Gateway
from service.nifti import nifti_bytes

MAX_ROI_BYTES = 32 * 1024 * 1024
MAX_ROI_VOXELS = 8 * 1024 * 1024  # a gzip of little may promise more
FOLDER = "rois"


def declare(gateway: Gateway, session: str, name: str, mask: Volume, baseline: RoiBaseline) -> tuple[str, bool]:
    """Measure the region in this session from the next volume on. Returns the mask's digest, and whether it was
    declared so before."""
    digest = gateway.blobs.put(encode_volume(mask))
    declared = SetRoi(t=gateway.now(), name=name, mask=digest, baseline=baseline)
    appended = gateway.recorder(session).set_roi(declared, int(np.count_nonzero(mask.data)))
    return digest, appended.duplicate


def declare_known(gateway: Gateway, session: str, subject: str) -> None:
    """Declare the subject's regions in a session; a file that is no mask becomes a warning of the session."""
    for path in _files(gateway, subject):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", path.name.partition(".")[0])[:32].lstrip("_-") or "roi"
        try:
            declare(gateway, session, name, read_mask(path), _baseline(path))
        except MindsightError as error:
            gateway.recorder(session).warn("roi.file", f"region {name} is left out: {error}", "warning", None, None)


def keep(gateway: Gateway, subject: str, name: str, mask: Volume, baseline: RoiBaseline) -> None:
    """Declare the region in every session of the subject that is opened from now on. Raises StorageFull."""
    path = _folder(gateway, subject) / f"{name}.nii"
    write_durably(path.with_suffix(".json"), baseline.model_dump_json().encode())
    write_durably(path, nifti_bytes(mask.data, mask.affine, intent="region"))


def kept(gateway: Gateway, subject: str) -> list[tuple[str, RoiBaseline]]:
    """The subject's regions, by name."""
    return [(path.name.partition(".")[0], _baseline(path)) for path in _files(gateway, subject)]


def drop(gateway: Gateway, subject: str, name: str) -> None:
    """Leave a region out of the sessions to come. Raises NotFound (``roi.unknown``)."""
    paths = [path for path in _files(gateway, subject) if path.name.partition(".")[0] == name]
    if not paths:
        raise NotFound(f"the subject has no region {name}", code="roi.unknown")
    for path in paths:
        path.unlink(missing_ok=True)
        path.with_name(f"{name}.json").unlink(missing_ok=True)


def _folder(gateway: Gateway, subject: str) -> Path:
    return gateway.settings.data_dir / FOLDER / subject


def _files(gateway: Gateway, subject: str) -> list[Path]:
    return sorted(_folder(gateway, subject).glob("*.nii*"))


def _baseline(path: Path) -> RoiBaseline:
    """As declared beside the mask; otherwise the volumes in no event."""
    try:
        return RoiBaseline.model_validate_json(path.with_name(f"{path.name.partition('.')[0]}.json").read_bytes())
    except (OSError, ValueError):
        return RoiBaseline()


def baseline_of(kind: str, from_s: float, until_s: float, label: str | None) -> RoiBaseline:
    """Raises BadRequest (``roi.baseline``)."""
    if kind == "label" and label is None:
        raise BadRequest("expected the label of the baseline's events, got none", code="roi.baseline")
    try:
        given = {"kind": kind, "from_s": from_s, "until_s": until_s, "label": label}
        return RoiBaseline.model_validate(given)
    except ValidationError as error:
        raise BadRequest(error.errors()[0]["msg"].lower(), code="roi.baseline") from None


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
