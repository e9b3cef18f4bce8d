"""The JSON file beside a NIfTI image, as in BIDS: what the image's own header has no place for.

Knows nothing of images. Only the fields in ``ALLOWED`` are read: converters also write names and dates there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.volume_bounds import is_tr

MAX_BYTES = 8 * 1024 * 1024

MOTION, MOTION_ORDER = "MotionParameters", "MotionParametersOrder"
ALLOWED = (
    "RepetitionTime",
    "VolumeTiming",
    "EchoTime",
    "SliceTiming",
    "SliceEncodingDirection",
    "MissingVolumes",
    MOTION,
    MOTION_ORDER,
)
"""The fields that are read: those of BIDS, and those of Mindsight's archives."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The fields of the file; None for unstated or impossible values.

    slice_times_s : (Z,) in the order of the image's slices; ``timing.py`` checks whether they are possible
    moments_s : when each volume began, if the file states it (a run with irregular acquisition)
    echo_time_ms : of this echo
    missing : volumes of the image that were not measured
    notes : for the operator: values that were corrected or ignored
    """

    tr_s: float | None = None
    slice_times_s: NDArray[np.float64] | None = None
    moments_s: tuple[float, ...] = ()
    echo_time_ms: float | None = None
    missing: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def read_motion(nifti: Path) -> tuple[list[Any], str] | None:
    """The motion parameters of each volume (null for a missing one) and their order, as our archives write them."""
    fields = _read_fields(nifti)
    rows, order = fields[MOTION], fields[MOTION_ORDER]
    return (rows, order) if isinstance(rows, list) and isinstance(order, str) else None


def _read_fields(nifti: Path) -> dict[str, Any]:
    """The fields in ``ALLOWED``; None for an absent field, and for all of them if no file parses."""
    name = nifti.name[: -len(".gz")] if nifti.name.lower().endswith(".gz") else nifti.name
    path = nifti.with_name(name).with_suffix(".json")
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_BYTES + 1)[:MAX_BYTES])
    except (OSError, ValueError, RecursionError):
        found = None
    return {name: found.get(name) if isinstance(found, dict) else None for name in ALLOWED}


def read_sidecar(nifti: Path, n_slices: int) -> Sidecar:
    """The sidecar of a NIfTI file; an empty one if there is none, or it does not parse: the image is still usable."""
    fields = _read_fields(nifti)
    notes: list[str] = []
    missing, times = fields["MissingVolumes"], fields["SliceTiming"]
    times_s = _slice_times(times, fields["SliceEncodingDirection"] or "k")
    if times_s is None and times is not None:
        notes.append(
            "slice times in the JSON file are ignored: they are not one number per slice along the image's slice axis"
        )
    elif times_s is not None and times_s.size != n_slices:
        notes.append(f"slice times in the JSON file are ignored: there are {times_s.size} for {n_slices} slices")
        times_s = None
    return Sidecar(
        tr_s=_tr_s(fields["RepetitionTime"], notes),
        slice_times_s=times_s,
        moments_s=_moments_s(fields["VolumeTiming"]),
        echo_time_ms=_echo_time_ms(fields["EchoTime"]),
        missing=frozenset(n for n in missing if type(n) is int) if isinstance(missing, list) else frozenset(),
        notes=tuple(notes),
    )


def _tr_s(stated: Any, notes: list[str]) -> float | None:
    if stated is None:
        return None
    if _is_number(stated) and is_tr(stated):
        return float(stated)
    if _is_number(stated) and is_tr(stated / 1000.0):
        notes.append(f"the JSON file states a repetition time of {stated:g}; taken as milliseconds")
        return float(stated) / 1000.0
    notes.append("the JSON file states an impossible repetition time, which is ignored")
    return None


def _moments_s(stated: Any) -> tuple[float, ...]:
    return tuple(map(float, stated)) if isinstance(stated, list) and all(map(_is_number, stated)) else ()


def _echo_time_ms(stated: Any) -> float | None:
    """BIDS states seconds. No echo is as late as one second, so a larger value is in milliseconds."""
    if not _is_number(stated) or not stated > 0.0:
        return None
    return round(1000.0 * stated if stated < 1.0 else float(stated), 6)


def _slice_times(times: Any, direction: Any) -> NDArray[np.float64] | None:
    """In BIDS, with the direction ``k-``, the first time is that of the last slice."""
    if not (isinstance(times, list) and all(map(_is_number, times)) and direction in ("k", "k-")):
        return None
    times_s = np.array(times, dtype=np.float64)
    return times_s[::-1].copy() if direction == "k-" else times_s


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e9 < value < 1e9  # not NaN; JSON's integers may exceed any float
