"""A folder or a file in any known format → volumes in acquisition order.

Knows nothing of how files arrive (they are complete), nor of the formats themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.formats.dicom_header import begins_as_dicom, read_dicom
from mindsight.scanner.formats.dicom_series import dicom_series, record_volume
from mindsight.scanner.formats.files import OnBad, natural, read_bytes, strictly
from mindsight.scanner.formats.nifti import is_nifti, nifti_volumes, read_nifti_header
from mindsight.scanner.formats.nifti_series import nifti_series
from mindsight.scanner.formats.parrec import is_parrec, par_files, read_parrec
from mindsight.scanner.formats.parrec_series import parrec_series
from mindsight.scanner.formats.unsupported import other_format
from mindsight.scanner.timing import agreed_times
from mindsight.volume import Volume

_DICOM_SUFFIXES = (".dcm", ".ima")
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Series:
    """One run's volumes, read one at a time during iteration.

    n_volumes : TRs from the first volume to the last, missing volumes included
    shape, tr_s : of the first volume; a later volume of another shape is an error
    notes : for the operator: what was left out and why; why slice times are unknown
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


def read_series(
    path: Path | str, run: int = 1, *, tr_s: float | None = None, echo: EchoChoice = None
) -> Iterator[Volume]:
    """The volumes of one run in acquisition order, one in memory at a time.

    path : a 4-D NIfTI file, a PAR/REC pair (either file), an enhanced multi-frame object, or a folder with one run:
        Siemens mosaics, enhanced objects, GE or Philips slices, PAR/REC pairs, NIfTI volumes (ordered by the numbers in
        their names, since NIfTI has no others). DICOM may lie in subfolders if the folder itself has none. If the run
        is there more than once (phase images, a series that the scanner corrected for motion), the raw magnitudes are
        taken: see ``Series.notes``
    run : number for the volumes, from 1
    tr_s : the repetition time, if the files state none or contradict each other; the volumes' own clock must agree
    echo : number of the echo to take, or all of them combined (see echoes.py); the first by default

    ``index`` counts TRs from the first volume that is there; a gap in the instance numbers is a gap in ``index``.
    Hidden files, and files that are neither DICOM nor NIfTI by name or content, are ignored.

    Raises BadVolume: before the first volume for errors in the headers, otherwise when iteration reaches the volume.
    """
    return iter(open_series(path, run, tr_s=tr_s, echo=echo))


def read_volume(path: Path | str, *, run: int, index: int, tr_s: float | None = None) -> Volume:
    """The volume of one file: a mosaic, an enhanced object, a 3-D NIfTI, a PAR/REC pair. Raises BadVolume."""
    path = Path(path)
    if is_nifti(path):
        header = read_nifti_header(path)
        if header.n_volumes != 1:
            raise BadVolume(
                f"expected one volume in the file, got {header.n_volumes}; read it as a series", code="nifti.shape"
            )
        (volume,) = nifti_volumes(path, header.agreed(tr_s).tr_s, run, index)
        return volume
    if is_parrec(path):
        run_in_file = read_parrec(path)
        if run_in_file.n_volumes != 1:
            raise BadVolume(
                f"expected one volume in the file, got {run_in_file.n_volumes}; read it as a series",
                code="parrec.several",
            )
        (volume,) = run_in_file.volumes(run_in_file.agreed(tr_s).tr_s, run, index)
        return volume
    volume = record_volume(read_dicom(read_bytes(path)), run, index, tr_s)
    return replace(volume, slice_times_s=agreed_times([volume.slice_times_s], volume.shape[2], volume.tr_s).times_Z)


def open_series(
    path: Path | str,
    run: int = 1,
    *,
    tr_s: float | None = None,
    on_bad: OnBad = strictly,
    echo: EchoChoice = None,
) -> Series:
    """Like ``read_series``, but the series knows its length and can be iterated over again.

    on_bad : called for each unreadable or repeated file, and for each incomplete volume; if it returns, the series goes
        on with a gap in ``index``

    Raises BadVolume; with ``on_bad`` only if nothing can be read, or the files belong to several runs.
    """
    path = Path(path)
    if not path.exists():
        raise BadVolume("expected a file or a folder, got neither; check the path", code="series.unreadable")
    files = _files(path) if path.is_dir() else [path]
    if not path.is_dir() and (other := other_format([path])) is not None:
        raise BadVolume(f"expected DICOM, PAR/REC or NIfTI, got {other}", code="series.format")
    nifti = [file for file in files if is_nifti(file)]
    parrec = par_files(files)
    if sum(map(bool, (nifti, parrec, len(files) > len(nifti) + sum(map(is_parrec, files))))) != 1:
        raise BadVolume("expected one format, got a folder with several; name one of them", code="series.several")
    if nifti:
        contents = nifti_series(nifti, run, tr_s, on_bad, echo)
    elif parrec:
        contents = parrec_series(parrec, run, tr_s, on_bad, echo)
    else:
        contents = dicom_series(files, run, tr_s, on_bad, echo)
    met: list[BadVolume] = []
    first = next(contents.volumes(strictly if on_bad is strictly else met.append), None)
    if first is None:
        raise met[0]
    return Series(contents.n_volumes, first.shape, first.tr_s, contents.notes, contents.volumes, on_bad)


def _files(folder: Path) -> list[Path]:
    try:
        entries = sorted((path for path in folder.iterdir() if path.is_file()), key=natural)
        files = [path for path in entries if not path.name.startswith(".") and _is_known(path)]
        files = files or list(_dicom_below(folder, MAX_DEPTH))
        n_folders = 0 if files else sum(path.is_dir() and not path.is_symlink() for path in folder.iterdir())
    except OSError as error:
        raise BadVolume(f"the folder cannot be read: {error.strerror}", code="series.unreadable") from None
    if not files:
        found = other_format(entries) or ("none, but folders; give the one of the run" if n_folders else "none")
        text = f"expected DICOM, PAR/REC or NIfTI files in the folder, got {found}"
        raise BadVolume(text, code="series.empty")
    return files


def _dicom_below(folder: Path, depth: int) -> Iterator[Path]:
    """The DICOM files in subfolders, where media and archives put a series' objects."""
    for path in sorted(folder.iterdir(), key=natural) if depth else ():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _dicom_below(path, depth - 1)
        elif path.is_file() and not is_nifti(path) and not is_parrec(path) and _is_dicom(path):
            yield path


def _is_known(path: Path) -> bool:
    return is_nifti(path) or is_parrec(path) or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    with path.open("rb") as file:
        return begins_as_dicom(file.read(132))
