"""Files beside a run: its table of events, and the motion parameters that another program estimated.

A table of a BIDS dataset may name fewer entities than the image (all echoes of a run share one table) and lie in a
folder above (the inheritance principle). Notes and errors name no file, since file names may contain a person's name.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.events import EventsTable, Note, decode_table, read_events_table
from mindsight.scanner.formats.sidecar import read_motion

MotionOrder = Literal["translations", "rotations"]
MAX_TABLE_BYTES = 64 * 1024 * 1024

_MOTION_FILES: tuple[tuple[str, str, MotionOrder | None], ...] = (  # in a run's folder, and beside an image by its name
    ("motion.txt", "", None),
    ("*_mcf.par", "{}_mcf.par", "rotations"),
    ("rp_*.txt", "rp_{}.txt", "translations"),
)
_IMAGE = re.compile(r"(.*?)(?:\.nii(?:\.gz)?|\.[^.]*)?")
_TABLE = re.compile(r"(?:([^.].*)_)?events\.tsv(?:\.gz)?")  # not ``._name``: macOS leaves those beside files
_CONFOUNDS = re.compile(r"[^.].*(?:_timeseries|_regressors)\.tsv|(?:.*_)?confounds\.tsv|[^.].*\.1D", re.IGNORECASE)
_BIDS_FOLDER = re.compile(r"func|(?:sub|ses)-[A-Za-z0-9]+")
NO_EVENTS = (
    "no events table was found beside the run: nothing is decoded without events; put events.tsv there, or use"
    " mindsight stream --events"
)
_MISSING = Note("events.missing", NO_EVENTS)


@dataclass(frozen=True, eq=False)
class Motion:
    """Six parameters per volume, which three come first (see ``RecordedRun``), and notes for the operator."""

    motion_T6: NDArray[np.float64] | None = None
    order: MotionOrder | None = None
    notes: tuple[Note, ...] = ()


def find_events(path: Path) -> EventsTable:
    """The table of a run's folder or image; without events, but with a note, if it is missing or unusable."""
    found = _table_of_folder(path) if path.is_dir() else _table_of_image(path)
    if not found:
        return EventsTable((), (_MISSING,))
    if len(found) > 1:
        text = (
            f"{len(found)} events tables fit the run, so none is used: remove the others, or choose one with"
            " mindsight stream --events"
        )
        return EventsTable((), (Note("events.several", text),))
    try:
        return read_events_file(found[0])
    except BadRequest as error:
        return EventsTable((), (Note(error.code, f"the events table beside the run is not used: {error}"),))


def find_motion(path: Path, n_volumes: int) -> Motion:
    """The motion parameters of a run's folder or image.

    Raises BadRequest (``motion.shape``, ``motion.number``, ``run.unreadable``) if they do not fit the run.
    """
    folder = path if path.is_dir() and path.name != "dcm" else path.parent
    stem = _stem(path)
    is_folders = path.is_dir() or stem == "bold"  # the folder holds this run only
    near = [(file, order) for pattern, _, order in _MOTION_FILES for file in sorted(folder.glob(pattern))]
    own = near if is_folders else [(file, order) for file, order in near if file.name in _own_names(stem)]
    notes = []
    others = [file for file in folder.iterdir() if _CONFOUNDS.fullmatch(file.name)]
    tables = [file for file in others if is_folders or _is_of(stem, file.name)]
    n_others = len(own) - 1 if own else len(near)
    if tables:
        text = "the table of confounds beside the run is not used: ingest estimates motion itself; to use your own"
        notes.append(Note("motion.unused", f"{text}, put six columns into motion.txt"))
    if n_others > 0:
        text = f"{n_others} other files of motion parameters beside the run are not used"
        notes.append(Note("motion.unused", f"{text}: {'one is used' if own else 'name one after the image to use it'}"))
    if not own:
        archived = None if path.is_dir() else read_motion(path)
        if archived is not None:
            return _archived(*archived, n_volumes)
        return Motion(notes=tuple(notes))
    file, order = own[0]
    return Motion(_parameters(file, n_volumes), order, tuple(notes))


def _table_of_folder(folder: Path) -> list[Path]:
    for where in (folder, folder.parent) if folder.name == "dcm" else (folder,):
        for name in ("events.tsv", "events.tsv.gz"):
            if (where / name).exists():
                return [where / name]
        images = [file for file in where.iterdir() if re.fullmatch(r"[^.].*_bold\.nii(\.gz)?", file.name)]
        of_images = {tuple(_table_of_image(image)) for image in images}  # one for all echoes
        inherited = list(of_images.pop()) if len(of_images) == 1 else []
        found = [file for file in sorted(where.iterdir()) if _is_folders(file, images)]
        if inherited or found:
            return inherited or found
    return []


def _is_folders(file: Path, images: list[Path]) -> bool:
    """Whether a file is a table of events whose name fits one of the folder's images."""
    match = _TABLE.fullmatch(file.name)
    if match is None:
        return False
    named = _entities(match[1] or "")
    shown = [_entities(_stem(image)) for image in images]
    return not shown or any(all(image.get(key, value) == value for key, value in named.items()) for image in shown)


def _table_of_image(image: Path) -> list[Path]:
    stem = _stem(image)
    entities = _entities(stem)
    if "sub" in entities or "task" in entities:
        for folder in _levels(Path(os.path.abspath(image.parent))):  # ``.`` would hide the folders above
            fitting = list(_inherited(folder, entities))
            if fitting:
                most = max(n for n, _ in fitting)
                return sorted(file for n, file in fitting if n == most)
        return []
    names = {f"{stem.removesuffix('_bold')}_events.tsv", "events.tsv"}
    return next(([image.parent / name] for name in sorted(names, reverse=True) if (image.parent / name).exists()), [])


def _inherited(folder: Path, entities: dict[str, str]) -> Iterator[tuple[int, Path]]:
    """The tables of one folder that fit an image with these entities, and how many entities each names."""
    for file in folder.iterdir() if folder.is_dir() else ():
        match = _TABLE.fullmatch(file.name)
        if match is not None and match[1]:
            named = _entities(match[1])
            if named and named.items() <= entities.items():
                yield len(named), file


def _levels(folder: Path) -> Iterator[Path]:
    """The folder, those above it in its dataset, and for a derivative the same folders of the raw dataset."""
    yield folder
    within = folder
    while _BIDS_FOLDER.fullmatch(within.name) and within.parent != within:
        within = within.parent
        yield within
    if "derivatives" in within.parts:
        above = Path(*within.parts[: within.parts.index("derivatives")])
        for root in (above, above / "rawdata"):
            raw = root / folder.relative_to(within)
            while raw != root:
                yield raw
                raw = raw.parent
            yield root


def _entities(stem: str) -> dict[str, str]:
    """The entities of a BIDS name; numbers without leading zeros."""
    pairs = (part.split("-", 1) for part in stem.split("_") if "-" in part)
    return {key: str(int(value)) if value.isdecimal() and key in ("run", "echo") else value for key, value in pairs}


def _stem(path: Path) -> str:
    match = _IMAGE.fullmatch(path.name)
    return path.name if match is None else match[1]


def _own_names(stem: str) -> list[str]:
    return [name.format(stem) for _, name, _ in _MOTION_FILES if name]


def _is_of(stem: str, table: str) -> bool:
    """Whether a derivative's table belongs to the image: the image has every entity that the table names."""
    named = {key: value for key, value in _entities(table.rsplit("_", 1)[0]).items() if key not in ("desc", "space")}
    return named.items() <= _entities(stem).items()


def _archived(rows: list[Any], order: str, n_volumes: int) -> Motion:
    """Motion of a run in our archives: the order, and one row per volume, null for a missing one."""
    if len(rows) != n_volumes or order not in ("translations", "rotations", "unknown"):
        text = f"expected motion parameters of {n_volumes} volumes beside the run, got {len(rows)}"
        raise BadRequest(text, code="motion.shape")
    try:
        motion_T6 = np.array([[0.0] * 6 if row is None else row for row in rows], dtype=np.float64)
    except (ValueError, TypeError):
        motion_T6 = np.full((n_volumes, 6), np.nan)
    if motion_T6.shape != (n_volumes, 6) or not np.isfinite(motion_T6).all():
        text = "expected six motion parameters per volume; correct the JSON file beside the image, or remove it"
        raise BadRequest(text, code="motion.number")
    return Motion(motion_T6, None if order == "unknown" else cast(MotionOrder, order))


def _parameters(file: Path, n_volumes: int) -> NDArray[np.float64]:
    try:
        text = _content(file, "motion parameters").decode()
    except UnicodeDecodeError:
        raise _unreadable("motion parameters") from None
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) != n_volumes or any(len(row) != 6 for row in rows):
        widths = sorted({len(row) for row in rows})
        raise BadRequest(
            f"expected motion parameters in one row of 6 numbers for each of {n_volumes} volumes, got {len(rows)}"
            f" rows of {' or '.join(map(str, widths)) or 'no'} numbers; correct that file, or remove it: ingest then"
            " estimates motion",
            code="motion.shape",
        )
    try:
        motion_T6 = np.array(rows, dtype=np.float64)
    except ValueError:
        motion_T6 = np.full((n_volumes, 6), np.nan)
    if not np.isfinite(motion_T6).all():
        raise BadRequest(
            "expected finite numbers as motion parameters; correct or remove that file", code="motion.number"
        )
    return motion_T6


def read_events_file(file: Path) -> EventsTable:
    """The table in a file, compressed or not. Raises BadRequest (``events...``, ``run.unreadable``)."""
    return read_events_table(decode_table(_content(file, "events")))


def _content(file: Path, what: str) -> bytes:
    try:
        with file.open("rb") as plain:
            is_gzip = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if is_gzip else contextlib.nullcontext(plain) as opened:
                content = opened.read(MAX_TABLE_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise _unreadable(what) from None
    if len(content) > MAX_TABLE_BYTES:
        raise _unreadable(what)
    return content


def _unreadable(what: str) -> BadRequest:
    return BadRequest(
        f"expected the run's {what} as readable text in UTF-8; save the file as UTF-8", code="run.unreadable"
    )
