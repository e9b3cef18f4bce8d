"""A run's events, the BIDS table that lists them (``events.tsv``), and the one rule of which rows are trials.

Standard library only, so that the gateway may use it. Knows nothing of volumes or files. ``docs/events.md`` is the
version for people who write tables.

A table is read row by row, and a faulty row never blocks the others. A ``Note`` names the rows that were left out or
read in a way that may not be intended, by their line in the table (the header is line 1). Notes quote no cell.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Literal, NoReturn

from mindsight.errors import BadRequest

NOT_AVAILABLE = "n/a"
EARLIEST_S = -24.0  # the model's time axis starts here (as nilearn's); events that ended earlier affect no volume
RESPONSE_S = 12.0  # length of the positive response to a short event, without undershoot (Glover 1999)
LONGEST_RUN_S, LONGEST_EVENT_S = 14400.0, 900.0  # above these the table is probably not in seconds
MAX_TEXT = 200  # characters of a label or an image's name

_UNKNOWN = frozenset({"", "n/a", "na", "nan", "#n/a", "#na"})  # ``null`` is a label: an event without stimulus
_UNIT = re.compile(r"\s*[(\[](?:s|sec|seconds)[)\]]$")  # after a column's name
_MAX_LINES = 10  # at most, in one note
_OURS = ("trial", "stimulus", "candidate")  # only the tables of our archives have all three
_NAMES = {  # columns by their BIDS name, with the names that stimulus programs write; the first match wins
    "onset": ("onset", "onset_s", "onsets"),
    "duration": ("duration", "duration_s", "durations"),
    "trial_type": ("trial_type", "condition"),
    "stim_file": ("stim_file", "image_name", "stim_name", "image_file", "stimulus_file", "image", "picture"),
}


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run.

    onset_s : seconds from the start of the run's first volume; may be negative
    duration_s : seconds; 0 for an impulse
    label : ``trial_type``
    stim_file : image that was shown, as a path relative to the stimulus folder
    number : trial number, in tables of our archives only; None for an event that is not a trial, and in other tables
    line : line of the table (the header is line 1); 0 without a table
    """

    onset_s: float
    duration_s: float
    label: str | None = None
    stim_file: str | None = None
    number: int | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Note:
    """A message to the operator about a run's events or companion files, issued once. Names no file, quotes no cell."""

    code: str
    text: str
    level: Literal["info", "warning"] = "warning"


@dataclass(frozen=True, slots=True)
class EventsTable:
    """The rows with an onset, in the table's order, and notes about the rest."""

    events: tuple[RunEvent, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class DeclaredEvent:
    """An event as it is declared over HTTP and by ``stream``, ``replay`` and ``calibrate``.

    trial : number in its run, from 1; None for an event that is modelled but not decoded
    occurrence : n for the n-th of several identical rows that are not trials; otherwise 1
    """

    onset_s: float
    duration_s: float
    trial: int | None
    label: str | None
    stim_file: str | None
    occurrence: int = 1


@dataclass(frozen=True, slots=True)
class DeclaredEvents:
    """A run's declared events in the order of their onsets, and notes about those that were left out."""

    events: tuple[DeclaredEvent, ...]
    notes: tuple[Note, ...] = ()


def declare(events: Iterable[RunEvent]) -> DeclaredEvents:
    """Decide which events are trials and number them.

    - Events are ordered by onset; simultaneous events keep the table's order.
    - An event with a label or an image is a trial. If no event of the run has either, every event is a trial. Names
      are not interpreted: ``rest`` is a trial too.
    - Trials are numbered from 1, including those that cannot be decoded. Numbers that our archives write are kept, and
      the events without a number in such a table are not trials.
    - An event that ended more than 24 s before the first volume is left out, since it affects no volume. An event that
      started earlier but lasts longer is cut to start there.
    - A trial whose response ended before the first volume is modelled but not decoded.
    - All other events are declared as planned, including those after the last volume; ``ingest`` decides at the end
      of the run what happens to trials that no volume covers.
    - Identical events are all kept: their responses add up.
    """
    ordered = sorted(events, key=lambda event: event.onset_s)
    declared: list[DeclaredEvent] = []
    counts: Counter[RunEvent] = Counter()
    left_out, undecoded = list[RunEvent](), list[RunEvent]()
    for event, trial in zip(ordered, _numbers(ordered), strict=True):
        times_s = in_model_time(event.onset_s, event.duration_s)
        if times_s is None:
            left_out.append(event)
            continue
        event = replace(event, onset_s=times_s[0], duration_s=times_s[1])
        if trial is not None and event.onset_s + event.duration_s + RESPONSE_S <= 0.0:
            undecoded.append(event)
            trial = None
        counts[event] += trial is None
        occurrence = counts[event] if trial is None else 1
        declared.append(DeclaredEvent(event.onset_s, event.duration_s, trial, event.label, event.stim_file, occurrence))
    notes = [
        *_note(
            "events.too_early",
            left_out,
            f"left out: ended over {-EARLIEST_S:g} s before the first volume; check onsets",
        ),
        *_note(
            "events.unseen", undecoded, "modelled but not decoded: response over before the first volume; check onsets"
        ),
    ]
    return DeclaredEvents(tuple(declared), tuple(notes))


def in_model_time(onset_s: float, duration_s: float) -> tuple[float, float] | None:
    """Onset and duration of the part of an event on the model's time axis; None if no part of it is."""
    if onset_s > EARLIEST_S:
        return onset_s, duration_s
    begin_s = EARLIEST_S + 0.001
    left_s = onset_s + duration_s - begin_s
    return (begin_s, left_s) if left_s > 0.0 else None


def _numbers(ordered: Sequence[RunEvent]) -> list[int | None]:
    """The trial number of each event; None for an event that is not a trial."""
    if any(event.number is not None for event in ordered):
        return [event.number for event in ordered]
    names_stimulus = [event.label is not None or event.stim_file is not None for event in ordered]
    is_trial = names_stimulus if any(names_stimulus) else [True] * len(ordered)
    return [count if trial else None for count, trial in zip(accumulate(map(int, is_trial)), is_trial, strict=True)]


def trials_after(events: Iterable[DeclaredEvent], n_volumes: int, tr_s: float) -> list[int]:
    """The trials that start with the last of ``n_volumes`` or later: no volume covers their response."""
    return [event.trial for event in events if event.trial is not None and event.onset_s >= (n_volumes - 1) * tr_s]


def unmeasured(run: int, trials: Sequence[int]) -> tuple[Note, ...]:
    """The note at the end of a run about trials whose response no volume covers."""
    if not trials:
        return ()
    what = f"trial{'s' if len(trials) > 1 else ''} {_listed(trials)}"
    text = f"run {run}: no volume covers the response to {what}: no final result; check onsets and number of volumes"
    return (Note("events.unmeasured", text),)


def candidate_of(shown: str, ids: Collection[str]) -> str:
    """The id of the pool's candidate with this name: the id itself, or the image's path or file name without suffix.

    Backslashes count as folder separators. Returns ``shown`` unchanged if no candidate matches.
    """
    return next((name for name in (shown, *_without_suffix(shown.replace("\\", "/"))) if name in ids), shown)


def file_stem(stim_file: str) -> str:
    """The image's file name without folder and suffix: the candidate's name when no pool is known."""
    return PurePosixPath(stim_file.replace("\\", "/")).stem


def decode_table(content: bytes) -> str:
    """The text of a table: UTF-8, or UTF-16 as spreadsheets write it. Raises BadRequest (``events.encoding``)."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = "expected an events table in UTF-8, got another encoding; save it as UTF-8"
        raise BadRequest(text, code="events.encoding") from None


def parse_events_tsv(text: str) -> list[RunEvent]:
    """The rows of ``read_events_table``."""
    return list(read_events_table(text).events)


def read_events_table(text: str) -> EventsTable:
    """Read a BIDS events table, or a similar one.

    - Columns: ``onset`` and, if present, ``duration``, ``trial_type`` and ``stim_file``; upper case, a unit as in
      ``onset (s)``, any order and a few other names are accepted. Other columns are ignored.
    - Lines before the header that start with ``#`` are comments; a ``#`` before the header's first name is ignored. A
      column of row numbers without a name, as R writes it, is ignored.
    - Cells are separated by tabs, or by the header's separator: semicolons, commas or spaces. Decimal commas and all
      line endings are accepted.
    - An empty cell, ``n/a`` and the like mean no value. A row without an onset is left out. Without a valid duration,
      the event is an impulse.
    - A path that leaves the stimulus folder is cut to its file name.
    - In tables of our archives, the trial numbers are kept and ``candidate`` names the image.

    Raises BadRequest (``events.columns``) if ``onset`` is absent or a column that is read occurs twice.
    """
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    first = _first(lines)
    separator = next((mark for mark in "\t;," if mark in lines[first]), None)  # None: any white space
    header = [_UNIT.sub("", name.lower()) for name in _cells(lines[first].lstrip("# "), separator)]
    columns, notes = _columns(header, first + 1)
    rows = [
        (number, _cells(line, separator)) for number, line in enumerate(lines[first + 1 :], first + 2) if line.strip()
    ]
    if _are_numbered([cells for _, cells in rows], len(header)):
        rows = [(number, cells[1:]) for number, cells in rows]
        notes.append(Note("events.column", "the events table's unnamed first column, row numbers, is ignored", "info"))
    faults: dict[str, list[int]] = {}
    longer = {number for number, cells in rows if any(cells[len(header) :])}
    if longer and separator in (",", None):  # a decimal comma, list or space: cell ends are ambiguous
        faults["events.commas"] = sorted(longer)
        rows = [(number, cells) for number, cells in rows if number not in longer]
    elif longer:
        faults["events.row"] = sorted(longer)
    events = [_event(columns, cells, number, faults) for number, cells in rows]
    notes += [Note(code, f"{_of_lines(faults[code])} {text}", level) for code, text, level in _FAULTS if code in faults]
    if not (rows or longer):
        notes.append(Note("events.empty", "the events table has no rows; export it again if trials were expected"))
    kept = [event for event in events if event is not None]
    numbers = [event.number for event in kept if event.number is not None]
    if len(set(numbers)) < len(numbers):
        kept = [replace(event, number=None) for event in kept]
    return EventsTable(tuple(kept), tuple(notes))


_FAULTS: tuple[tuple[str, str, Literal["info", "warning"]], ...] = (
    ("events.onset", "left out: no onset in seconds; enter it, or delete the row", "warning"),
    ("events.commas", "left out: more commas or spaces than columns; separate cells by tabs", "warning"),
    ("events.no_duration", "without a duration: taken as an impulse", "info"),
    ("events.duration", "with a negative or invalid duration: taken as an impulse; enter seconds", "warning"),
    ("events.stim_file", "with a path outside the stimulus folder: only the file name is kept; correct it", "warning"),
    ("events.text", f"with a label or image name of over {MAX_TEXT} characters: cut; use shorter names", "warning"),
    (
        "events.unit",
        f"with an onset beyond {LONGEST_RUN_S / 3600:g} h or a duration beyond {LONGEST_EVENT_S / 60:g} min: expected"
        " seconds from the run's first volume; check whether the table is in milliseconds or uses another clock",
        "warning",
    ),
    ("events.row", "with more cells than the header: the extra ones are ignored; check the row", "warning"),
)


def _first(lines: Sequence[str]) -> int:
    """Index of the header: the first line that is neither empty nor a comment, or a comment with an onset column."""
    filled = [i for i, line in enumerate(lines) if line.strip()]
    for i in filled:
        line = lines[i].strip().lower()
        if not line.startswith("#") or _UNIT.sub("", re.split(r"[\t;,]|  ", line.lstrip("# "))[0]) in _NAMES["onset"]:
            return i
    return filled[0] if filled else 0


def _are_numbered(rows: Sequence[Sequence[str]], n_columns: int) -> bool:
    """Whether each row has one cell more than the header and the first cells count from 0 or 1."""
    if len(rows) < 2 or any(len(cells) != n_columns + 1 for cells in rows):
        return False
    return any([cells[0] for cells in rows] == [str(n + begin) for n in range(len(rows))] for begin in (0, 1))


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    if separator == "\t":
        cells = line.split("\t")
    else:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:  # a cell of over 128 KiB
            cells = line.split(separator)
    return [cell.strip().strip('"').strip() for cell in cells]


def _columns(header: Sequence[str], line: int) -> tuple[dict[str, int], list[Note]]:
    """Column index by name, and notes about the header."""
    found = {name: next((other for other in others if other in header), None) for name, others in _NAMES.items()}
    for name, taken in found.items():
        if taken is not None and header.count(taken) != 1:
            _refuse(f"expected one column {name!r}, got {header.count(taken)}; delete all but one", line)
    if found["onset"] is None:
        _refuse(
            f"expected a table with a column 'onset' in its first line, got {len(header)} columns without it; put the"
            " column names in the first line",
            line,
        )
    columns = {name: header.index(taken) for name, taken in found.items() if taken is not None}
    notes = []
    if found["duration"] is None:
        notes.append(Note("events.no_duration", "the events table has no column 'duration': all events are impulses"))
    notes += [
        Note("events.column", f"column {taken!r} of the events table is read as {name!r}", "info")
        for name, taken in found.items()
        if taken not in (None, name)
    ]
    if all(header.count(name) == 1 for name in _OURS):
        columns |= {name: header.index(name) for name in _OURS}
    n_others = len(header) - len(columns) - header.count("")
    if n_others > 0:
        notes.append(Note("events.column", f"{n_others} other columns of the events table are ignored", "info"))
    return columns, notes


def _event(columns: dict[str, int], cells: Sequence[str], line: int, faults: dict[str, list[int]]) -> RunEvent | None:
    def cell(name: str) -> str:
        column = columns.get(name, len(cells))
        return cells[column] if column < len(cells) else ""

    def fault(code: str) -> None:
        faults.setdefault(code, []).append(line)

    onset_s = _number(cell("onset"))
    if onset_s is None:
        fault("events.onset")
        return None
    duration_s = _number(cell("duration"))
    if duration_s is None or duration_s < 0.0:
        if "duration" in columns:
            fault("events.no_duration" if cell("duration").lower() in _UNKNOWN else "events.duration")
        duration_s = 0.0
    if onset_s > LONGEST_RUN_S or duration_s > LONGEST_EVENT_S:
        fault("events.unit")
    label, stim_file = _text(cell("trial_type")), _text(cell("candidate")) or _text(cell("stim_file"))
    number = int(cell("trial")) if re.fullmatch(r"[1-9]\d{0,5}", cell("trial")) else None
    if stim_file is not None and not _stays_inside(stim_file):
        fault("events.stim_file")
        stim_file = _text(re.split(r"[/\\]", stim_file)[-1].strip("."))
    stim_file = stim_file and stim_file.replace("\\", "/")  # Windows paths
    if max(len(label or ""), len(stim_file or "")) > MAX_TEXT:
        fault("events.text")
        label = label and label[:MAX_TEXT]
        stim_file = stim_file and (stim_file if len(stim_file) <= MAX_TEXT else stim_file[-MAX_TEXT:])
    return RunEvent(onset_s, duration_s, label, stim_file, number, line)


def _number(cell: str) -> float | None:
    cell = cell.replace("\u2212", "-")  # the minus sign of word processors
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", cell):
        return None
    value = float(cell.replace(",", "."))
    return value if math.isfinite(value) else None


def _text(cell: str) -> str | None:
    return None if cell.lower() in _UNKNOWN else cell


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path.replace("\\", "/"))
    return not parts.is_absolute() and ".." not in parts.parts and ":" not in parts.parts[0]


def _without_suffix(shown: str) -> tuple[str, str]:
    path = PurePosixPath(shown)
    return (path.parent / path.stem).as_posix(), path.stem


def _note(code: str, events: Sequence[RunEvent], text: str) -> list[Note]:
    if not events:
        return []
    lines = [event.line for event in events if event.line]
    what = _of_lines(lines) if lines else f"{len(events)} events"
    return [Note(code, f"{what} {text}")]


def _of_lines(lines: Sequence[int]) -> str:
    return f"events table, line{'s' if len(lines) > 1 else ''} {_listed(lines)}"


def _listed(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:_MAX_LINES]))
    return named if len(numbers) <= _MAX_LINES else f"{named} and {len(numbers) - _MAX_LINES} more"


def _refuse(message: str, line: int) -> NoReturn:
    raise BadRequest(message, code="events.columns", line=line)
