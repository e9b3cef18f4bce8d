"""What the trials of a file of betas showed: the table beside the maps, or the events of its run.

Knows nothing of images or masks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindsight.archive.names import run_of
from mindsight.errors import BadRequest
from mindsight.events import NOT_AVAILABLE

COLUMNS = ("candidate", "stim_file", "image", "stimulus")
"""Columns that name the image of a trial; the first one that a table has counts."""
_CONTRAST = re.compile(r"_contrast-([a-zA-Z0-9]*?)(\d+)_")


@dataclass(frozen=True, slots=True)
class TrialRow:
    """run : of the table's column, else of the file's name"""

    image: str
    run: int


def read_trials(files: Sequence[Path], n: int, events: Path | None) -> list[TrialRow]:
    """The trial of each of ``n`` maps, in the order of the maps.

    files : one file with all of them, or one for each, numbered by its contrast
    events : folder of the raw data; None: the events lie in the folder of the maps

    Raises BadRequest (``dataset.half``) if no table says it, or the table has another number of trials.
    """
    table = _table(files[0], events)
    rows = _read(table)
    run = run_of(files[0].name)
    if len(files) > 1:
        rows = [_of_contrast(path, rows, table) for path in files]
    if len(rows) != n:
        raise BadRequest(
            f"expected a trial in {table.name} for each of the {n} maps in {files[0].name}, got {len(rows)}: complete"
            " the table, or leave the run out",
            code="dataset.half",
        )
    return [TrialRow(_image(row, table), int(row.get("run") or run)) for row in rows]


def _table(path: Path, events: Path | None) -> Path:
    beside = path.with_name(path.name.split(".")[0] + ".tsv")
    if beside.is_file():
        return beside
    stem = re.match(r"sub-[^_]+(?:_ses-[^_]+)?(?:_task-[^_]+)?(?:_run-[^_]+)?", path.name)
    name = f"{stem[0] if stem else path.stem}_events.tsv"
    found = list((events or path.parent).rglob(name))
    if len(found) != 1:
        raise BadRequest(
            f"expected {beside.name} beside {path.name}, or one {name}, which say what each trial showed, got"
            f" {len(found)}: write the table, a row a map in their order, with a column stim_file",
            code="dataset.half",
        )
    return found[0]


def _read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = [
            {name: value for name, value in row.items() if value not in (None, "", NOT_AVAILABLE)}
            for row in csv.DictReader(file, delimiter="\t")
        ]
    if "volume" in (rows[0] if rows else {}):
        return sorted(rows, key=lambda row: int(row["volume"]))
    return [row for row in rows if any(name in row for name in COLUMNS)]


def _of_contrast(path: Path, rows: Sequence[dict[str, str]], table: Path) -> dict[str, str]:
    """The row whose place the contrast's number gives, from 1."""
    found = _CONTRAST.search(path.name)
    number = int(found[2]) if found else 0
    if not 1 <= number <= len(rows):
        raise BadRequest(
            f"expected a contrast with the number of its trial, 1 to {len(rows)} as in {table.name}, got {path.name}:"
            " name the conditions trial001, trial002, ... in the order of the events",
            code="dataset.half",
        )
    return rows[number - 1]


def _image(row: dict[str, str], table: Path) -> str:
    name = next((row[column] for column in COLUMNS if column in row), None)
    if name is None:
        raise BadRequest(
            f"expected what each trial showed in {table.name}, in a column {', '.join(COLUMNS)}, got a row without:"
            " complete it",
            code="dataset.images",
        )
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last
