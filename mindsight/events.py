"""What was shown when: the events of a run, and BIDS' table of them (``events.tsv``).

Standard library only, so that the gateway may use it. Knows nothing of volumes, trials or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

from mindsight.errors import BadRequest

NOT_AVAILABLE = "n/a"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run.

    onset_s : seconds after the run's first volume began
    duration_s : seconds; 0 for an impulse
    label : ``trial_type``
    stim_file : picture that was shown, a path relative to the folder of the stimuli
    """

    onset_s: float
    duration_s: float
    label: str | None = None
    stim_file: str | None = None


def parse_events_tsv(text: str) -> list[RunEvent]:
    """The rows of a BIDS events table, in the table's order; columns that are not a ``RunEvent``'s are passed over.

    Raises BadRequest: no ``onset`` or ``duration`` column, a column twice, a row of another length, an onset that is
    no number, a duration that is none or negative, a ``stim_file`` that leaves its folder.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    columns = lines[0].split("\t") if lines else []
    for needed in ("onset", "duration"):
        if columns.count(needed) != 1:
            _refuse("columns", f"expected one column {needed!r}, tab-separated, got {columns.count(needed)}", line=1)
    if len(set(columns)) != len(columns):
        _refuse("columns", "expected every column once", line=1)
    return [_event(columns, line.split("\t"), number) for number, line in enumerate(lines[1:], 2) if line.strip()]


def _event(columns: Sequence[str], cells: Sequence[str], line: int) -> RunEvent:
    if len(cells) != len(columns):
        _refuse("row", f"line {line}: expected {len(columns)} cells, got {len(cells)}", line=line)
    row = dict(zip(columns, cells, strict=True))
    duration_s = _number(row["duration"], "duration", line)
    if duration_s < 0:
        _refuse("duration", f"line {line}: expected a duration of 0 s or more, got {duration_s:g}", line=line)
    stim_file = _text(row.get("stim_file"))
    if stim_file is not None and not _stays_inside(stim_file):
        _refuse("stim_file", f"line {line}: expected stim_file to be a relative path without '..'", line=line)
    return RunEvent(
        onset_s=_number(row["onset"], "onset", line),
        duration_s=duration_s,
        label=_text(row.get("trial_type")),
        stim_file=stim_file,
    )


def _number(cell: str, column: str, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        _refuse(column, f"line {line}: expected the {column} in seconds, got {cell[:20]!r}", line=line)
    return value


def _text(cell: str | None) -> str | None:
    cell = (cell or "").strip()
    return None if cell in ("", NOT_AVAILABLE) else cell


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path.replace("\\", "/"))
    return not parts.is_absolute() and ".." not in parts.parts and ":" not in parts.parts[0]


def _refuse(what: str, message: str, *, line: int) -> NoReturn:
    raise BadRequest(message, code=f"events.{what}", line=line)
