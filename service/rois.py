"""Regions of interest: declared in a session, and a subject's own, which are declared in each of its sessions.

Knows nothing of HTTP. A subject's own lie in ``rois/<subject>/`` of the data folder, where a person may put files too:
``<name>.nii`` or ``<name>.nii.gz``. Of a file that is sent nothing else is kept: no name, no description, no extension
of its header. ``service.masks``, and numpy with it, is imported where a mask is read, in that thread.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mindsight.errors import BadRequest, MindsightError, NotFound
from mindsight.files.durable import write_durably
from mindsight.protocol.inputs import SetRoi
from mindsight.protocol.rois import RoiBaseline
from service.context import Gateway

if TYPE_CHECKING:
    from mindsight.volume import Volume

MAX_ROI_BYTES = 32 * 1024 * 1024
FOLDER = "rois"


def declare(gateway: Gateway, session: str, name: str, mask: Volume, baseline: RoiBaseline) -> tuple[str, bool]:
    """Measure the region in this session from the next volume on. Returns the mask's digest, and whether it was
    declared so before."""
    from service.masks import payload_of

    digest = gateway.blobs.put(payload_of(mask))
    declared = SetRoi(t=gateway.now(), name=name, mask=digest, baseline=baseline)
    appended = gateway.recorder(session).set_roi(declared, int(mask.data.sum()))
    return digest, appended.duplicate


def declare_known(gateway: Gateway, session: str, subject: str) -> None:
    """Declare the subject's regions in a session; a file that is no mask becomes a warning of the session."""
    if not (paths := _files(gateway, subject)):
        return
    from service.masks import read_mask

    for path in paths:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", path.name.partition(".")[0])[:32].lstrip("_-") or "roi"
        try:
            declare(gateway, session, name, read_mask(path), _baseline(path))
        except MindsightError as error:
            gateway.recorder(session).warn("roi.file", f"region {name} is left out: {error}", "warning", None, None)


def keep(gateway: Gateway, subject: str, name: str, mask: Volume, baseline: RoiBaseline) -> None:
    """Declare the region in every session of the subject that is opened from now on. Raises StorageFull."""
    from service.masks import file_of

    path = _folder(gateway, subject) / f"{name}.nii"
    write_durably(path.with_suffix(".json"), baseline.model_dump_json().encode())
    write_durably(path, file_of(mask))


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


def mask_of(content: bytes) -> Volume:
    """The mask in a NIfTI file's content. Raises BadRequest (``roi.mask``)."""
    from service import masks

    return masks.mask_of(content)
