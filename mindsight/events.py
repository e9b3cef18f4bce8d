"""What was shown when: a run's events, BIDS' table of them (``events.tsv``), and the one rule of which are trials.

Standard library only, so that the gateway may use it. Knows nothing of volumes or files. ``docs/events.md`` says the
same for people who write tables.

A table is judged row by row, and a row never stands before the others: what can be kept is kept, and a ``Note`` names
the rows (by the table's lines, the header being line 1) of which something was left out or read in a way that may not
be meant. Notes hold no text of the table.
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
EARLIEST_S = -24.0  # the model's time begins here (as nilearn's does): what was over by then is in no volume
RESPONSE_S = 12.0  # the response to a short event is over after about this, before its undershoot (Glover 1999)
LONGEST_RUN_S, LONGEST_EVENT_S = 14400.0, 900.0  # beyond these a table may not be in seconds, which is said
MAX_TEXT = 200  # characters of a label, of a picture's name

_UNKNOWN = frozenset({"", "n/a", "na", "nan", "#n/a", "#na"})  # ``null`` is a label: of an event that shows nothing
_UNIT = re.compile(r"\s*[(\[](?:s|sec|seconds)[)\]]$")  # after a column's name
_MAX_LINES = 10  # that a note names
_OURS = ("trial", "stimulus", "candidate")  # all three are in the tables that our archives have, and in no others
_NAMES = {  # the columns that are read, by BIDS' name and by what stimulus programs write; the first found is taken
    "onset": ("onset", "onset_s", "onsets"),
    "duration": ("duration", "duration_s", "durations"),
    "trial_type": ("trial_type", "condition"),
    "stim_file": ("stim_file", "image_name", "stim_name", "image_file", "stimulus_file", "image", "picture"),
}


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run.

    onset_s : seconds after the run's first volume began; negative before it
    duration_s : seconds; 0 for an impulse
    label : ``trial_type``
    stim_file : picture that was shown, a path relative to the folder of the stimuli
    number : of the trial, where the table is one of our archives; None of an event that was none, and elsewhere
    line : of the table, the header being line 1; 0 where there is no table
    """

    onset_s: float
    duration_s: float
    label: str | None = None
    stim_file: str | None = None
    number: int | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Note:
    """What a person is told of a run's events or of what lies beside it, once. It names no file and quotes no cell."""

    code: str
    text: str
    level: Literal["info", "warning"] = "warning"


@dataclass(frozen=True, slots=True)
class EventsTable:
    """The rows that have an onset, in the table's order, and what is to be said of the table."""

    events: tuple[RunEvent, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class DeclaredEvent:
    """An event as every way declares it: over HTTP, by ``stream``, ``replay`` and ``calibrate``.

    trial : number in its run, from 1; None for an event that is modelled and never asked for
    occurrence : 1, or n for the n-th of several rows without a trial that are equal in all else
    """

    onset_s: float
    duration_s: float
    trial: int | None
    label: str | None
    stim_file: str | None
    occurrence: int = 1


@dataclass(frozen=True, slots=True)
class DeclaredEvents:
    """What a run's events become, in the order of their onsets, and what is to be said of it."""

    events: tuple[DeclaredEvent, ...]
    notes: tuple[Note, ...] = ()


def declare(events: Iterable[RunEvent]) -> DeclaredEvents:
    """The one rule of trials.

    - Events stand in the order of their onsets; those of one moment in the order of the table.
    - An event is a trial where it says what was shown, by a label or a picture; where none of the run's events does,
      each is. Names are not interpreted: ``rest`` is a trial too. What is not to be decoded has neither, or no row.
    - Trials are numbered from 1, whatever becomes of them. Events with numbers, as our archives write them, keep these,
      and those beside them are no trials.
    - An event that was over 24 s before the first volume is left out: it is in no volume. One that began earlier and
      lasts longer counts from there.
    - A trial whose response was over before the first volume is modelled and not asked for.
    - All others are declared as planned, those after the last volume too. What a trial that no volume shows comes to is
      decided at the run's end, see ``ingest``.
    - Equal events are all there: their responses add up.
    """
    ordered = sorted(events, key=lambda event: event.onset_s)
    declared: list[DeclaredEvent] = []
    counts: Counter[RunEvent] = Counter()
    left_out, unasked = list[RunEvent](), list[RunEvent]()
    for event, trial in zip(ordered, _numbers(ordered), strict=True):
        times_s = in_model_time(event.onset_s, event.duration_s)
        if times_s is None:
            left_out.append(event)
            continue
        event = replace(event, onset_s=times_s[0], duration_s=times_s[1])
        if trial is not None and event.onset_s + event.duration_s + RESPONSE_S <= 0.0:
            unasked.append(event)
            trial = None
        counts[event] += trial is None
        occurrence = counts[event] if trial is None else 1
        declared.append(DeclaredEvent(event.onset_s, event.duration_s, trial, event.label, event.stim_file, occurrence))
    notes = [
        *_note("events.too_early", left_out, f"left out: over {-EARLIEST_S:g} s before the first volume or earlier"),
        *_note("events.unseen", unasked, "modelled but not decoded: the response was over before the first volume"),
    ]
    return DeclaredEvents(tuple(declared), tuple(notes))


def in_model_time(onset_s: float, duration_s: float) -> tuple[float, float] | None:
    """Onset and duration of the part of an event that the model's time holds; None where that is no part."""
    if onset_s > EARLIEST_S:
        return onset_s, duration_s
    begin_s = EARLIEST_S + 0.001
    left_s = onset_s + duration_s - begin_s
    return (begin_s, left_s) if left_s > 0.0 else None


def _numbers(ordered: Sequence[RunEvent]) -> list[int | None]:
    """The trial that each event is, None where it is none."""
    if any(event.number is not None for event in ordered):
        return [event.number for event in ordered]
    says = [event.label is not None or event.stim_file is not None for event in ordered]
    is_trial = says if any(says) else [True] * len(ordered)
    return [count if asked else None for count, asked in zip(accumulate(map(int, is_trial)), is_trial, strict=True)]


def trials_after(events: Iterable[DeclaredEvent], n_volumes: int, tr_s: float) -> list[int]:
    """The trials that begin with the last of so many volumes or later: none of them shows their response."""
    return [event.trial for event in events if event.trial is not None and event.onset_s >= (n_volumes - 1) * tr_s]


def unmeasured(run: int, trials: Sequence[int]) -> tuple[Note, ...]:
    """What is to be said at a run's end of trials that no volume shows."""
    if not trials:
        return ()
    what = f"trial{'s' if len(trials) > 1 else ''} {_listed(trials)}"
    text = f"run {run}: no volume shows {what}, outside what was measured: no final answer"
    return (Note("events.unmeasured", text),)


def candidate_of(shown: str, ids: Collection[str]) -> str:
    """The candidate of a pool that an experiment's name means: the id, or the name of the picture's file, with its
    folder or without, folders as Windows writes them too. The name as it is where it means none.
    """
    return next((name for name in (shown, *_without_suffix(shown.replace("\\", "/"))) if name in ids), shown)


def file_stem(stim_file: str) -> str:
    """The name of the picture's file, without folder and suffix: the candidate where no pool is known."""
    return PurePosixPath(stim_file.replace("\\", "/")).stem


def decode_table(content: bytes) -> str:
    """The text of a table: UTF-8, or UTF-16 as spreadsheets write it. Raises BadRequest (``events.encoding``)."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("expected an events table in UTF-8: save it so", code="events.encoding") from None


def parse_events_tsv(text: str) -> list[RunEvent]:
    """The rows of ``read_events_table``."""
    return list(read_events_table(text).events)


def read_events_table(text: str) -> EventsTable:
    """A BIDS events table, or one like it.

    - Columns: ``onset`` and, where they are there, ``duration``, ``trial_type`` and ``stim_file``; upper case, a unit
      as in ``onset (s)``, other orders and a few other names are understood. Others are passed over.
    - Lines that begin with ``#`` before the header are comments, and ``#`` before its first name is passed over. Rows
      that are numbered in a column without a name, as R writes them, are read beside their numbers.
    - Cells are separated by tabs, or by what separates the header's: semicolons, commas, spaces. Decimal commas are
      understood, and any line ends.
    - No cell, ``n/a`` and the like are no value. A row without an onset is left out. Without a duration, or with one
      that is none, the event is an impulse.
    - A picture's path that does not stay in its folder is cut to the file's name.
    - In tables of our archives the trials' numbers hold, and ``candidate`` says what was shown.

    Raises BadRequest (``events.columns``) where there is no ``onset``, or a column that is read comes twice.
    """
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    first = _first(lines)
    separator = _separator(lines[first])
    header = [_UNIT.sub("", name.lower()) for name in _cells(lines[first].lstrip("# "), separator)]
    places, notes = _places(header, first + 1)
    rows = [
        (number, _cells(line, separator)) for number, line in enumerate(lines[first + 1 :], first + 2) if line.strip()
    ]
    if _are_numbered([cells for _, cells in rows], len(header)):
        rows = [(number, cells[1:]) for number, cells in rows]
        notes.append(Note("events.column", "the events table's first column has no name: it numbers the rows", "info"))
    faults: dict[str, list[int]] = {}
    longer = {number for number, cells in rows if any(cells[len(header) :])}
    if longer and separator in (",", None):  # decimal commas, a list in a cell, a space: where a cell ends is not known
        faults["events.commas"] = sorted(longer)
        rows = [(number, cells) for number, cells in rows if number not in longer]
    elif longer:
        faults["events.row"] = sorted(longer)
    events = [_event(places, cells, number, faults) for number, cells in rows]
    notes += [Note(code, f"{_of_lines(faults[code])} {text}", level) for code, text, level in _TOLD if code in faults]
    if not (rows or longer):
        notes.append(Note("events.empty", "the events table has no rows"))
    kept = [event for event in events if event is not None]
    numbers = [event.number for event in kept if event.number is not None]
    if len(set(numbers)) < len(numbers):
        kept = [replace(event, number=None) for event in kept]
    return EventsTable(tuple(kept), tuple(notes))


_TOLD: tuple[tuple[str, str, Literal["info", "warning"]], ...] = (
    ("events.onset", "left out: no onset in seconds", "warning"),
    ("events.commas", "left out: more commas or spaces than columns; separate cells by tabs", "warning"),
    ("events.no_duration", "without a duration: taken as an impulse", "info"),
    ("events.duration", "with a duration that is none or negative: taken as an impulse", "warning"),
    ("events.stim_file", "with a picture's path that leaves its folder: its file's name alone is kept", "warning"),
    ("events.text", f"with a label or picture's name of over {MAX_TEXT} characters: the rest is cut", "warning"),
    (
        "events.unit",
        f"with an onset beyond {LONGEST_RUN_S / 3600:g} h or a duration beyond {LONGEST_EVENT_S / 60:g} min: expected"
        " seconds from the run's first volume; is the table in milliseconds, or by another clock?",
        "warning",
    ),
    ("events.row", "with more cells than the header has: those are passed over", "warning"),
)


def _first(lines: Sequence[str]) -> int:
    """The place of the header: the first line that is neither empty nor a comment, or a comment that names an onset."""
    filled = [place for place, line in enumerate(lines) if line.strip()]
    for place in filled:
        line = lines[place].strip().lower()
        if not line.startswith("#") or _UNIT.sub("", re.split(r"[\t;,]|  ", line.lstrip("# "))[0]) in _NAMES["onset"]:
            return place
    return filled[0] if filled else 0


def _are_numbered(rows: Sequence[Sequence[str]], n_columns: int) -> bool:
    """Whether each row has one cell more than the header, and those before the others count from 0 or 1."""
    if len(rows) < 2 or any(len(cells) != n_columns + 1 for cells in rows):
        return False
    return any([cells[0] for cells in rows] == [str(n + begin) for n in range(len(rows))] for begin in (0, 1))


def _separator(header: str) -> str | None:
    """None: any white space."""
    return next((mark for mark in ("\t", ";", ",") if mark in header), None)


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


def _places(header: Sequence[str], line: int) -> tuple[dict[str, int], list[Note]]:
    """Where the columns are that are read."""
    found = {name: next((other for other in others if other in header), None) for name, others in _NAMES.items()}
    for name, taken in found.items():
        if taken is not None and header.count(taken) != 1:
            _refuse(f"expected one column {name!r}, got {header.count(taken)}; leave one", line)
    if found["onset"] is None:
        _refuse(
            f"expected a table with a column 'onset' in its first line, got {len(header)} columns without it; write"
            " the columns' names into the first line",
            line,
        )
    places = {name: header.index(taken) for name, taken in found.items() if taken is not None}
    notes = []
    if found["duration"] is None:
        notes.append(Note("events.no_duration", "the events table has no durations: all are taken as impulses"))
    notes += [
        Note("events.column", f"column {taken!r} of the events table is taken as {name!r}", "info")
        for name, taken in found.items()
        if taken not in (None, name)
    ]
    if all(header.count(name) == 1 for name in _OURS):
        places |= {name: header.index(name) for name in _OURS}
    n_others = len(header) - len(places) - header.count("")
    if n_others > 0:
        notes.append(Note("events.column", f"{n_others} other columns of the events table are passed over", "info"))
    return places, notes


def _event(places: dict[str, int], cells: Sequence[str], line: int, faults: dict[str, list[int]]) -> RunEvent | None:
    def cell(name: str) -> str:
        place = places.get(name, len(cells))
        return cells[place] if place < len(cells) else ""

    def fault(code: str) -> None:
        faults.setdefault(code, []).append(line)

    onset_s = _number(cell("onset"))
    if onset_s is None:
        fault("events.onset")
        return None
    duration_s = _number(cell("duration"))
    if duration_s is None or duration_s < 0.0:
        if "duration" in places:
            fault("events.no_duration" if cell("duration").lower() in _UNKNOWN else "events.duration")
        duration_s = 0.0
    if onset_s > LONGEST_RUN_S or duration_s > LONGEST_EVENT_S:
        fault("events.unit")
    label, stim_file = _text(cell("trial_type")), _text(cell("candidate")) or _text(cell("stim_file"))
    number = int(cell("trial")) if re.fullmatch(r"[1-9]\d{0,5}", cell("trial")) else None
    if stim_file is not None and not _stays_inside(stim_file):
        fault("events.stim_file")
        stim_file = _text(re.split(r"[/\\]", stim_file)[-1].strip("."))
    stim_file = stim_file and stim_file.replace("\\", "/")  # as Windows writes folders
    if max(len(label or ""), len(stim_file or "")) > MAX_TEXT:
        fault("events.text")
        label = label and label[:MAX_TEXT]
        stim_file = stim_file and (stim_file if len(stim_file) <= MAX_TEXT else stim_file[-MAX_TEXT:])
    return RunEvent(onset_s, duration_s, label, stim_file, number, line)


def _number(cell: str) -> float | None:
    cell = cell.replace("\u2212", "-")  # a minus sign as word processors write it
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
