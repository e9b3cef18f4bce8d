"""A survey of a folder, series by series: which can be decoded, which would be left out, and why.

Knows nothing of how that is shown. Headers are read, and the voxels of one volume of each run. Files are referred to by
their number in the order of names; no name, path or date comes out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mindsight.errors import BadVolume, MindsightError
from mindsight.scanner.beside import find_events
from mindsight.scanner.formats.dicom_header import DicomRecord, read_dicom
from mindsight.scanner.formats.dicom_series import dicom_series
from mindsight.scanner.formats.dicom_timing import began_s, moments_of
from mindsight.scanner.formats.enhanced import is_enhanced
from mindsight.scanner.formats.files import Contents, natural, read_bytes
from mindsight.scanner.formats.image_type import MAGNITUDE, Kind, kind_of, series_key
from mindsight.scanner.formats.mosaic import is_mosaic
from mindsight.scanner.formats.nifti import is_nifti, read_nifti_header
from mindsight.scanner.formats.nifti_series import nifti_series
from mindsight.scanner.formats.parrec import is_parrec, par_files, read_parrec
from mindsight.scanner.formats.parrec_series import parrec_series
from mindsight.scanner.formats.slices import group_slices
from mindsight.scanner.guard import guarded
from mindsight.scanner.timing import pace_of, usual_tr
from mindsight.volume import Volume

MAX_DEPTH = 8
MAX_FILES = 200_000
SAME_MOMENT_S = 5e-3
AS_STORED = "as stored"
_SEVERAL = "several runs or single images lie in one folder; put each run into a separate folder"


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One series. Fields that it does not state are None or empty.

    holds : kind of its images, in words
    n_volumes : TRs from the first volume to the last; ``missing`` are those that are incomplete
    tr_header_s, tr_clock_s, tr_s : stated by the headers, by the volumes' own clock, and the one that is used
    slices_at_once : number of slices excited together, from the slice times
    scaling : how stored values become signal
    left_out : why it is not a run that can be decoded; empty if it is one
    """

    format: str
    vendor: str = ""
    holds: str = MAGNITUDE
    n_files: int = 0
    n_volumes: int = 0
    missing: tuple[int, ...] = ()
    shape: tuple[int, int, int] | None = None
    voxel_mm: tuple[float, ...] = ()
    tr_header_s: float | None = None
    tr_clock_s: float | None = None
    tr_s: float | None = None
    has_slice_times: bool = False
    slices_at_once: int | None = None
    echo_times_ms: tuple[float, ...] = ()
    scaling: str = AS_STORED
    left_out: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """The series of a folder.

    unreadable : errors of files that cannot be read
    n_other : number of files in other formats, which are ignored
    n_events : rows of the table of events beside the run; ``notes`` report its faults, or that there is none
    """

    series: tuple[Surveyed, ...]
    unreadable: tuple[str, ...] = ()
    n_other: int = 0
    n_events: int = 0
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Surveyed, ...]:
        return tuple(one for one in self.series if not one.left_out)

    @property
    def can_decode(self) -> bool:
        return bool(self.runs)

    @property
    def needed(self) -> tuple[str, ...]:
        """What decoding still needs."""
        runs = () if self.runs else ("a series of volumes that can be read",)
        events = () if self.n_events else ("events: a table beside the run, with --events, or sent live",)
        return runs + events


@dataclass(slots=True)
class _Found:
    """Files by format, grouped by what is read together."""

    dicom: dict[str, list[tuple[Path, DicomRecord]]] = field(default_factory=dict)
    nifti: dict[Path, list[Path]] = field(default_factory=dict)
    parrec: dict[Path, list[Path]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    n_other: int = 0


def survey(path: Path) -> Survey:
    """All series in a folder and its subfolders, or in a file. Raises BadVolume if there is no such path."""
    if not path.exists():
        raise BadVolume("expected a folder or file, got none; check the path", code="series.unreadable")
    files = sorted(_files(path), key=lambda one: (str(one.parent), natural(one))) if path.is_dir() else [path]
    found = _sorted(files)
    series = [_dicom(members) for members in found.dicom.values()]
    for folder in found.nifti.values():
        series += _nifti(folder)
    for pairs in found.parrec.values():
        series += _parrec(pairs)
    table = find_events(path)
    notes = tuple(note.text for note in table.notes)
    return Survey(_without_corrected_copies(series), tuple(found.unreadable), found.n_other, len(table.events), notes)


def _files(folder: Path) -> list[Path]:
    files: list[Path] = []
    for where, folders, names in os.walk(folder):
        depth = len(Path(where).relative_to(folder).parts)
        folders[:] = [name for name in folders if not name.startswith(".")] if depth < MAX_DEPTH else []
        files += [Path(where) / name for name in names if not name.startswith(".")]
        if len(files) > MAX_FILES:
            raise BadVolume(f"expected at most {MAX_FILES} files, got more; name a subfolder", code="series.several")
    return [file for file in files if file.is_file()]


def _sorted(files: Sequence[Path]) -> _Found:
    found, pairs = _Found(), set(par_files(list(files)))
    for number, file in enumerate(files, 1):
        if is_nifti(file):
            found.nifti.setdefault(file.parent, []).append(file)
        elif is_parrec(file):
            if file in pairs:
                found.parrec.setdefault(file.parent, []).append(file)
        else:
            _sort_dicom(file, number, len(files), found)
    return found


def _sort_dicom(file: Path, number: int, n: int, found: _Found) -> None:
    try:
        record = guarded(lambda: read_dicom(read_bytes(file), header_only=True))
    except MindsightError as error:
        if error.code == "dicom.not_dicom" and file.suffix.lower() not in (".dcm", ".ima"):
            found.n_other += 1
        else:
            found.unreadable.append(f"file {number} of {n} by name: {error}")
    else:
        found.dicom.setdefault(f"{file.parent} {series_key(record)} {_holds(record)}", []).append((file, record))


def _holds(record: DicomRecord) -> str:
    return str(kind_of(record)) if record.modality == "MR" else "no MR"


def _dicom(members: Sequence[tuple[Path, DicomRecord]]) -> Surveyed:
    records = [record for _, record in members]
    first, kind = records[0], kind_of(records[0])
    known = Surveyed(
        format=_layout(first),
        vendor=first.vendor,
        holds=_holds(first),
        n_files=len(members),
        tr_header_s=usual_tr([record.tr_s for record in records]),
        tr_clock_s=_clock_s(records),
        echo_times_ms=_echoes(records),
        scaling=_scaling({(frame.slope, frame.intercept) for record in records for frame in record.frames}),
    )
    why_not = _why_not(first, kind)
    if why_not:
        return replace(known, left_out=why_not)
    return _read(known, lambda on_bad: dicom_series([file for file, _ in members], 1, None, on_bad))


def _layout(record: DicomRecord) -> str:
    if is_enhanced(record):
        return "DICOM, enhanced"
    return "DICOM, mosaics" if is_mosaic(record) else "DICOM, a slice a file"


def _why_not(record: DicomRecord, kind: Kind) -> str:
    if record.modality != "MR":
        return "it is no MR"
    if kind.computed:
        return f"it is a {kind.computed}, not an acquisition"
    return "" if kind.component in (MAGNITUDE, "mixed") else f"it holds {kind.component} images, not magnitudes"


def _nifti(files: Sequence[Path]) -> list[Surveyed]:
    single, found = list[Path](), list[Surveyed]()
    for file in files:
        try:
            if guarded(lambda file=file: read_nifti_header(file)).n_volumes > 1:  # type: ignore[misc]
                found.append(_nifti_run([file]))
            else:
                single.append(file)
        except MindsightError as error:
            found.append(Surveyed("NIfTI", n_files=1, left_out=str(error)))
    return [*found, _nifti_run(single)] if single else found


def _nifti_run(files: Sequence[Path]) -> Surveyed:
    header = guarded(lambda: read_nifti_header(files[0]))
    scaling = _scaling({(header.slope, header.intercept)})
    tr_s = next(iter(header.stated_s.values()), None)
    known = Surveyed("NIfTI", n_files=len(files), tr_header_s=tr_s, scaling=scaling)
    return _read(known, lambda on_bad: nifti_series(list(files), 1, None, on_bad))


def _parrec(files: Sequence[Path]) -> list[Surveyed]:
    several = [file for file in files if _n_volumes(file) != 1]
    groups = [[file] for file in several] + [[file for file in files if file not in several]]
    known = Surveyed("PAR/REC", vendor="Philips", scaling="by the scales of the PAR header")
    return [
        _read(replace(known, n_files=2 * len(group)), lambda on_bad, group=group: parrec_series(group, 1, None, on_bad))  # type: ignore[misc]
        for group in groups
        if group
    ]


def _n_volumes(file: Path) -> int:
    try:
        return guarded(lambda: read_parrec(file)).n_volumes
    except MindsightError:
        return 0


def _read(known: Surveyed, contents_of: Callable[[Callable[[BadVolume], None]], Contents]) -> Surveyed:
    """The series with the facts that a reader of the whole series finds."""
    met: list[BadVolume] = []

    def opened() -> tuple[Contents, Volume | None]:
        contents = contents_of(met.append)
        return contents, next(contents.volumes(met.append), None)

    try:
        contents, first = guarded(opened)
    except MindsightError as error:
        return replace(known, left_out=_SEVERAL if error.code == "series.several" else str(error))
    if first is None:
        return replace(known, left_out=str(met[0]) if met else "it has no volume")
    bad = {int(number) for error in met if (number := error.details.get("volume")) is not None}
    times_s, notes = first.slice_times_s, [*contents.notes, *map(str, met[:5])]
    return replace(
        known,
        n_volumes=contents.n_volumes,
        missing=tuple(sorted(bad)),
        shape=first.shape,
        voxel_mm=tuple(round(float(side), 3) for side in first.voxel_mm),
        tr_s=first.tr_s,
        has_slice_times=times_s is not None,
        slices_at_once=None if times_s is None else _at_once(times_s),
        left_out="" if contents.n_volumes > 1 else "it is a single volume",
        notes=tuple(notes),
    )


def _at_once(times_s: Iterable[float]) -> int:
    moments = np.sort(np.asarray(list(times_s)))
    return round(len(moments) / (1 + int((np.diff(moments) > SAME_MOMENT_S / 2).sum())))


def _clock_s(records: Sequence[DicomRecord]) -> float | None:
    """The repetition time by the volumes' clock; None if they have none."""
    moments: dict[int, float | None] = {}
    if is_mosaic(records[0]) or is_enhanced(records[0]):
        echo = records[0].frames[0]  # only the first echo's volumes: the times of several echoes do not advance
        same = [one for one in records if one.frames[0].echo_time_ms == echo.echo_time_ms]
        ordered = sorted(same, key=lambda record: record.instance_number or 0)
        for record in ordered:
            own = moments_of(record)
            first = len(moments)
            if len(own) == 1 and len(same) == len(records):  # otherwise numbers run through all echoes
                first = record.instance_number or first
            for number, (moment_s, _) in enumerate(own.values()):
                moments[first + number] = moment_s
    else:
        try:
            groups = guarded(lambda: group_slices(list(enumerate(records)), lambda _: None))
        except MindsightError:
            return None
        moments = {index: began_s([records[i] for i in group]) for index, group in groups.items()}
    pace = pace_of(moments)
    return None if pace is None else pace.tr_s


def _echoes(records: Sequence[DicomRecord]) -> tuple[float, ...]:
    times = {frame.echo_time_ms for record in records for frame in record.frames}
    return tuple(sorted(round(time, 2) for time in times if time is not None))


def _scaling(scales: set[tuple[float, float]]) -> str:
    if scales <= {(1.0, 0.0)}:
        return AS_STORED
    return "one slope and intercept" if len(scales) == 1 else f"{len(scales)} slopes and intercepts"


def _without_corrected_copies(series: Sequence[Surveyed]) -> tuple[Surveyed, ...]:
    """Leaves out the scanner's own motion-corrected series if the raw one is there too."""
    raw = {(one.shape, one.n_volumes) for one in series if not one.left_out and "motion-corrected" not in one.holds}
    return tuple(
        replace(one, left_out="the raw series of the same run is there too; `moco=1` chooses this one")
        if not one.left_out and "motion-corrected" in one.holds and (one.shape, one.n_volumes) in raw
        else one
        for one in series
    )
