"""The JSON file beside a NIfTI, as BIDS has it: what the image's own header has no place for.

Knows nothing of images. Only the fields of ``ALLOWED`` are looked at: converters write names and dates there as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1024 * 1024

ALLOWED = ("RepetitionTime", "SliceTiming", "SliceEncodingDirection", "MissingVolumes")
"""Fields that are read: BIDS' own, and that of Mindsight's archives."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What it says; None where it does not, or says what cannot be.

    slice_times_s : (Z,) in the order of the image's slices
    missing : volumes of the image that are no measurement
    """

    tr_s: float | None = None
    slice_times_s: NDArray[np.float64] | None = None
    missing: frozenset[int] = frozenset()


def read_sidecar(nifti: Path, n_slices: int, image_tr_s: float | None) -> Sidecar:
    """That of a NIfTI file; an empty one where there is none that parses: an image is none the worse for it.

    image_tr_s : the image's own repetition time, within which its slices lie; None where it states none
    """
    name = nifti.name[: -len(".gz")] if nifti.name.lower().endswith(".gz") else nifti.name
    path = nifti.with_name(name).with_suffix(".json")
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_BYTES + 1)[:MAX_BYTES])
    except (OSError, ValueError, RecursionError):
        return Sidecar()
    if not isinstance(found, dict):
        return Sidecar()
    said: dict[str, Any] = {name: found.get(name) for name in ALLOWED}
    tr_s = said["RepetitionTime"]
    tr_s = float(tr_s) if _is_number(tr_s) and 0.0 < tr_s < 60.0 else None
    missing = said["MissingVolumes"]
    return Sidecar(
        tr_s=tr_s,
        slice_times_s=_slice_times(
            said["SliceTiming"],
            said["SliceEncodingDirection"] or "k",
            n_slices,
            tr_s if image_tr_s is None else image_tr_s,
        ),
        missing=frozenset(n for n in missing if type(n) is int) if isinstance(missing, list) else frozenset(),
    )


def _slice_times(times: Any, direction: Any, n_slices: int, tr_s: float | None) -> NDArray[np.float64] | None:
    """BIDS: with the direction ``k-`` the first time is that of the last slice."""
    if not (isinstance(times, list) and len(times) == n_slices and all(map(_is_number, times))):
        return None
    times_s = np.array(times, dtype=np.float64)
    if times_s.min() < 0.0 or times_s.max() >= (tr_s or 60.0) or direction not in ("k", "k-"):
        return None
    return times_s[::-1].copy() if direction == "k-" else times_s


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e9 < value < 1e9  # no NaN; and JSON's integers may exceed any float
