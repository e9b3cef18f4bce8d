"""A folder or a file → volumes in acquisition order, whichever of the known formats it holds.

Knows nothing of how files arrive: they are whole and all there.

File and folder names are identity (a patient's name is often in them): they choose which files are read, and appear
neither in a volume nor in an error, which names a file by its place in the order of names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord, read_dicom
from mindsight.scanner.enhanced import enhanced_positions, enhanced_volume, enhanced_volumes, is_enhanced
from mindsight.scanner.kinds import preferred
from mindsight.scanner.mosaic import is_mosaic, mosaic_volume
from mindsight.scanner.nifti import is_nifti, nifti_volumes, read_nifti_header
from mindsight.scanner.parrec import is_parrec, par_files, read_parrec
from mindsight.scanner.slices import group_slices, slices_volume, stacked_times_s
from mindsight.volume import Volume

MAX_DICOM_BYTES = 256 * 1024 * 1024

_DICOM_SUFFIXES = (".dcm", ".ima")

T = TypeVar("T")
OnBad = Callable[[BadVolume], None]


def strictly(error: BadVolume) -> None:
    """What is done with a file that cannot be read, unless somebody says otherwise."""
    raise error


@dataclass(frozen=True, slots=True)
class Series:
    """One run's volumes, read one at a time as they are iterated over.

    n_volumes : TRs from the first volume to the last, missing ones included
    shape, tr_s : of the first volume; a later one of another shape is a bad one
    notes : sentences for a person: what was left out, and why; why slice times are unknown
    """

    n_volumes: int
    shape: tuple[int, int, int]
    tr_s: float
    notes: tuple[str, ...]
    _volumes: Callable[[OnBad], Iterator[Volume]]
    _on_bad: OnBad

    def __iter__(self) -> Iterator[Volume]:
        for volume in self._volumes(self._on_bad):
            if volume.shape == self.shape:
                yield volume
                continue
            text = f"volume {volume.index}: expected the shape {self.shape} of the first, got {volume.shape}"
            self._on_bad(BadVolume(text, code="volume.shape_mismatch", index=volume.index))


def read_series(path: Path | str, run: int = 1, *, tr_s: float | None = None) -> Iterator[Volume]:
    """The volumes of one run in acquisition order, one in memory at a time.

    path : a 4-D NIfTI file, a PAR/REC pair (either file), an enhanced multi-frame object, or a folder with one run:
        Siemens mosaics, enhanced objects, GE or Philips slices, PAR/REC pairs, NIfTI volumes (ordered by the numbers in
        their names, since NIfTI has no other). Where the run is there more than once (phase images, a series that the
        scanner corrected for motion), the raw magnitudes are taken: see ``Series.notes``
    run : number the volumes are given, from 1
    tr_s : overrides the repetition time of the files; needed where they state none

    ``index`` counts TRs from the first volume that is there: it has a gap where the instance numbers have one. Hidden
    files, and files that are neither DICOM nor NIfTI by name or content, are passed over.

    Raises BadVolume, before the first volume for what the headers show, else when the volume is come to.
    """
    return iter(open_series(path, run, tr_s=tr_s))


def read_volume(path: Path | str, *, run: int, index: int, tr_s: float | None = None) -> Volume:
    """The volume of one file: a mosaic, an enhanced object, a 3-D NIfTI, a PAR/REC pair. Raises BadVolume."""
    path = Path(path)
    if is_nifti(path):
        header = read_nifti_header(path)
        if header.n_volumes != 1:
            raise BadVolume(
                f"expected one volume in the file, got {header.n_volumes}; read it as a series", code="nifti.shape"
            )
        (volume,) = nifti_volumes(path, stated_tr(tr_s, header.tr_s), run, index)
        return volume
    if is_parrec(path):
        run_in_file = read_parrec(path)
        if run_in_file.n_volumes != 1:
            raise BadVolume(
                f"expected one volume in the file, got {run_in_file.n_volumes}; read it as a series",
                code="parrec.several",
            )
        (volume,) = run_in_file.volumes(stated_tr(tr_s, run_in_file.tr_s), run, index)
        return volume
    return record_volume(read_dicom(read_bytes(path)), run, index, tr_s)


def open_series(path: Path | str, run: int = 1, *, tr_s: float | None = None, on_bad: OnBad = strictly) -> Series:
    """Like ``read_series``; the series can be iterated over again, and says how long it is.

    on_bad : is told of each file that cannot be read, or comes twice, and of each volume that is not whole; if it
        returns, the series goes on without, and ``index`` has a gap there

    Raises BadVolume; with ``on_bad`` only where nothing can be read, or the files are those of several runs.
    """
    path = Path(path)
    files = _files(path) if path.is_dir() else [path]
    nifti = [file for file in files if is_nifti(file)]
    parrec = par_files(files)
    if sum(map(bool, (nifti, parrec, len(files) > len(nifti) + sum(map(is_parrec, files))))) != 1:
        raise BadVolume("expected one format, got a folder with several; name one of them", code="series.several")
    if nifti:
        contents = _nifti_series(nifti, run, tr_s, on_bad)
    elif parrec:
        contents = _parrec_series(parrec, run, tr_s, on_bad)
    else:
        contents = _dicom_series(files, run, tr_s, on_bad)
    met: list[BadVolume] = []
    first = next(contents.volumes(strictly if on_bad is strictly else met.append), None)
    if first is None:
        raise met[0]
    return Series(contents.n_volumes, first.shape, first.tr_s, contents.notes, contents.volumes, on_bad)


@dataclass(frozen=True, slots=True)
class _Contents:
    n_volumes: int
    volumes: Callable[[OnBad], Iterator[Volume]]
    notes: tuple[str, ...] = ()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorting key that counts: 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", path.name) if part]


def _files(folder: Path) -> list[Path]:
    try:
        entries = sorted((path for path in folder.iterdir() if path.is_file()), key=_natural)
        files = [path for path in entries if not path.name.startswith(".") and _is_known(path)]
    except OSError as error:
        raise BadVolume(f"the folder cannot be read: {error.strerror}", code="series.unreadable") from None
    if not files:
        raise BadVolume("expected DICOM, PAR/REC or NIfTI files in the folder, got none", code="series.empty")
    return files


def _is_known(path: Path) -> bool:
    return is_nifti(path) or is_parrec(path) or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_bytes(path: Path) -> bytes:
    """What a file holds, up to the size that a DICOM object may have. Raises BadVolume."""
    try:
        with path.open("rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size  # a buffer of the bound itself would be made for each file
            data = file.read(n_bytes + 1) if n_bytes <= MAX_DICOM_BYTES else None
    except OSError as error:
        raise BadVolume(f"the file cannot be read: {error.strerror}", code="dicom.unreadable") from None
    if data is None or len(data) > MAX_DICOM_BYTES:
        raise BadVolume(f"expected a file of at most {MAX_DICOM_BYTES} bytes", code="dicom.too_large")
    return data


def stated_tr(given_s: float | None, stated_s: float | None) -> float:
    """The repetition time that was given, else that of the file. Raises BadVolume where there is neither."""
    tr_s = stated_s if given_s is None else given_s
    if tr_s is None:
        raise BadVolume("the file states no repetition time between 0 and 60 s; give tr_s", code="volume.tr")
    return tr_s


def record_volume(record: DicomRecord, run: int, index: int, tr_s: float | None = None) -> Volume:
    """The volume of one DICOM object that holds a whole one: a mosaic, an enhanced object. Raises BadVolume."""
    if record.modality != "MR":
        raise BadVolume("expected an MR image, got another modality", code="dicom.not_mr")
    tr_s = stated_tr(tr_s, record.tr_s)
    if is_mosaic(record):
        return mosaic_volume(record, tr_s, run, index)
    if is_enhanced(record):
        return enhanced_volume(record, tr_s, run, index)
    raise BadVolume(
        "expected a whole volume in the file (mosaic or enhanced DICOM), got one slice; read the folder as a series",
        code="dicom.layout",
    )


def _nifti_series(files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad) -> _Contents:
    headers = _heads(len(files), lambda place: read_nifti_header(files[place - 1]), on_bad)
    if len(files) > 1 and any(header.n_volumes != 1 for header in headers.values()):
        raise BadVolume("expected one 4-D file or 3-D files, got several runs; name one of them", code="series.several")
    tr = stated_tr(tr_s, next(iter(headers.values())).tr_s)
    if len(files) == 1:

        def whole(on_bad: OnBad) -> Iterator[Volume]:
            try:
                yield from nifti_volumes(files[0], tr, run)
            except BadVolume as error:
                on_bad(error)

        return _Contents(headers[1].n_volumes, whole)

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        def read(place: int) -> Volume:
            (volume,) = nifti_volumes(files[place - 1], tr, run, place - 1)
            return volume

        yield from _each(headers, len(files), read, on_bad)

    return _Contents(len(files), volumes)


def _parrec_series(files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad) -> _Contents:
    pairs = _heads(len(files), lambda place: read_parrec(files[place - 1]), on_bad)
    first = next(iter(pairs.values()))
    tr = stated_tr(tr_s, first.tr_s)
    if len(files) == 1:
        return _Contents(first.n_volumes, lambda _: first.volumes(tr, run), first.notes)
    if any(pair.n_volumes != 1 for pair in pairs.values()):
        raise BadVolume("expected one run, or pairs of one volume; got several runs; name one", code="series.several")
    # Each pair has its number in the run, or each says it is the first: then the names have the order.
    numbers = {place: pair.dynamics[0] for place, pair in pairs.items()}
    if len(set(numbers.values())) < len(pairs):
        numbers = {place: place for place in pairs}
    first_number = _first_number(numbers, len(files) - len(pairs))

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        def read(place: int) -> Volume:
            (volume,) = pairs[place].volumes(tr, run, numbers[place] - first_number)
            return volume

        yield from _each(sorted(pairs, key=numbers.__getitem__), len(files), read, on_bad)

    n_volumes = max(numbers.values()) - first_number + 1
    return _Contents(n_volumes, volumes, tuple(dict.fromkeys(note for pair in pairs.values() for note in pair.notes)))


def _dicom_series(files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad) -> _Contents:
    n = len(files)

    def read(place: int) -> DicomRecord:
        return read_dicom(read_bytes(files[place - 1]))

    found = _heads(n, lambda place: read_dicom(read_bytes(files[place - 1]), header_only=True), on_bad)
    chosen, note = preferred(found)
    heads = {place: found[place] for place in chosen}
    notes = () if note is None else (note,)
    if all(is_mosaic(record) or is_enhanced(record) for record in heads.values()):
        places = _numbered(heads, n, n - len(found), on_bad)
        if any(is_enhanced(record) and len(enhanced_positions(record)) > 1 for record in heads.values()):
            return _objects_series(list(places.values()), heads, read, run, tr_s, notes)
        indices = {place: index for index, place in places.items()}

        def volumes(on_bad: OnBad) -> Iterator[Volume]:
            yield from _each(
                places.values(), n, lambda place: record_volume(read(place), run, indices[place], tr_s), on_bad
            )

        return _Contents(max(places) + 1, volumes, notes)

    if len(heads) == 1:
        record_volume(heads[chosen[0]], run, 0, tr_s)  # says that one slice is no series
    return _slices_series(heads, read, run, tr_s, notes, on_bad)


def _heads(n: int, read: Callable[[int], T], on_bad: OnBad) -> dict[int, T]:
    """What all files promise, by their place in the order of names, from 1. Raises BadVolume where none is left."""
    met: list[BadVolume] = []

    def tell(error: BadVolume) -> None:
        met.append(error)
        on_bad(error)

    found: dict[int, T] = {}
    for place in range(1, n + 1):
        for head in _each([place], n, read, tell):
            found[place] = head
    if not found:
        raise met[0]
    return found


def _each(places: Iterable[int], n: int, read: Callable[[int], T], on_bad: OnBad) -> Iterator[T]:
    """What is read of these files; errors say which file it was."""
    for place in places:
        try:
            with _named(place, n):
                found = read(place)
        except BadVolume as error:
            on_bad(error)
        else:
            yield found


def _first_number(numbers: dict[int, int], n_bad: int) -> int:
    """What the run counts from: the first number that is there, but 1 where the bad files may be those before it."""
    first = min(numbers.values())
    return 1 if 1 < first <= n_bad + 1 else first


def _objects_series(
    places: Sequence[int],
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    run: int,
    tr_s: float | None,
    notes: tuple[str, ...],
) -> _Contents:
    """Enhanced objects with several volumes each, one object after the other."""
    tr = stated_tr(tr_s, heads[places[0]].tr_s)
    spans = [max(numbers) - min(numbers) + 1 for numbers in (enhanced_positions(heads[place]) for place in places)]

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        for place, first_index in zip(places, accumulate(spans, initial=0), strict=False):
            try:
                with _named(place, len(heads)):
                    yield from enhanced_volumes(read(place), tr, run, first_index)
            except BadVolume as error:
                on_bad(error)

    return _Contents(sum(spans), volumes, notes)


def _slices_series(
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    run: int,
    tr_s: float | None,
    notes: tuple[str, ...],
    on_bad: OnBad,
) -> _Contents:
    groups = group_slices(list(heads.items()), on_bad)
    tr = stated_tr(tr_s, next(iter(heads.values())).tr_s)
    clocks = _clocks({index: [heads[place] for place in group] for index, group in groups.items()})
    stated = (stacked_times_s([heads[place] for place in group], tr) for group in groups.values())
    times_s = next((times_Z for times_Z in stated if times_Z is not None), None)
    if times_s is None:
        notes = (*notes, "slice times are unknown: the files of this scanner do not state them")

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        for index, group in groups.items():
            try:
                volume = slices_volume([read(place) for place in group], tr, run, index, clocks[index])
            except BadVolume as error:
                on_bad(BadVolume(f"volume {index}: {error}", code=error.code, **error.details))
            else:
                yield replace(volume, slice_times_s=times_s)

    return _Contents(max(groups) + 1, volumes, notes)


def _clocks(groups: dict[int, list[DicomRecord]]) -> dict[int, float | None]:
    """When each volume was acquired; unknown where all say the same, as from GE, which states when the series began."""
    times = {
        index: min((r.frames[0].acquired_s for r in group if r.frames[0].acquired_s is not None), default=None)
        for index, group in groups.items()
    }
    return times if len(set(times.values())) == len(times) else dict.fromkeys(times)


def _numbered(heads: dict[int, DicomRecord], n: int, n_bad: int, on_bad: OnBad) -> dict[int, int]:
    """Index of the volume → place of its file, in acquisition order; a number that comes twice is bad.

    n, n_bad : files that there are, and those of them that could not be read
    """
    numbers: dict[int, int] = {}
    for place, record in heads.items():
        number = record.acquisition_number if record.instance_number is None else record.instance_number
        if number is None:
            raise BadVolume(
                f"file {place} of {n}: expected an instance or acquisition number",
                code="dicom.no_number",
                file=place,
            )
        if number in numbers:
            text = f"files {numbers[number]} and {place} of {n} have one instance number, {number}; remove one"
            on_bad(BadVolume(text, code="series.duplicate", file=place))
            continue
        numbers[number] = place
    first = _first_number({place: number for number, place in numbers.items()}, n_bad)
    return {number - first: numbers[number] for number in sorted(numbers)}


@contextmanager
def _named(place: int, n: int) -> Iterator[None]:
    """Errors within say which file it was."""
    try:
        yield
    except BadVolume as error:
        details = error.details | {"file": place}
        raise BadVolume(f"file {place} of {n} by name: {error}", code=error.code, **details) from None
