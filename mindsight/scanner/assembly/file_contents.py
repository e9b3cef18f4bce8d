"""Content of a whole file of a watched folder: a DICOM object, the volumes of a NIfTI file or of a PAR/REC pair.

Knows nothing of time or of which files are whole. Names choose the format, and identify the series if the format
does not (NIfTI, PAR/REC). They go nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.assembly.arrivals import AS_ACQUIRED, Ended, NumberedVolume
from mindsight.scanner.formats.dicom_header import DicomRecord, read_dicom
from mindsight.scanner.formats.file_names import made_beside, named
from mindsight.scanner.formats.files import read_bytes
from mindsight.scanner.formats.image_type import Kind
from mindsight.scanner.formats.nifti import check_whole, is_nifti, nifti_volumes
from mindsight.scanner.formats.parrec import is_parrec, read_parrec
from mindsight.scanner.formats.unsupported import other_format

PAIR = ".{par,rec}"
_ENDINGS = (".nii", ".nii.gz")
_SPELLINGS = (".par", ".PAR", ".Par"), (".rec", ".REC", ".Rec")

# SPM's names: subject-SSSS-AAAAA-IIIIII-EE. Acquisition and image count the volumes; the echo at the end is gone here.
_SPM = re.compile(r"^(?P<before>.*-\d{4}-)\d{5}-(?P<number>\d{6})(?P<after>)$", re.DOTALL)
_COUNTED = re.compile(r"^(?P<before>.*?)(?P<number>\d{1,9})(?P<after>\D*)$", re.DOTALL)


def unit_of(path: str) -> str:
    """The unit that is read at once: the file, or the pair that it belongs to."""
    return path[:-4] + PAIR if is_parrec(Path(path)) else path


def members(unit: str) -> tuple[str, ...]:
    """The files of a unit, all of which must be whole before it is read; of a pair, those that exist."""
    if not unit.endswith(PAIR):
        return (unit,)
    stem = unit[: -len(PAIR)]
    found = (next((stem + s for s in spellings if os.path.lexists(stem + s)), None) for spellings in _SPELLINGS)
    return tuple(path for path in found if path is not None)


def read_unit(unit: str, tr_s: float | None) -> Iterator[DicomRecord | NumberedVolume | Ended]:
    """Content of the unit; a run of several volumes is read one volume at a time.

    tr_s : repetition time for files that state none

    Raises BadVolume before the first item if the unit is not whole.
    """
    if unit.endswith(PAIR):
        files = members(unit)
        if len(files) < 2:
            text = "expected a PAR and a REC file of the same name, got one of them; copy both files"
            raise BadVolume(text, code="parrec.no_pair")
        yield from _pair(Path(files[0]), unit[: -len(PAIR)], tr_s)
    elif is_nifti(Path(unit)):
        yield from _nifti(Path(unit), tr_s)
    else:
        other = other_format([Path(unit)])
        if other is not None:
            raise BadVolume(f"expected DICOM, PAR/REC or NIfTI, got {other}", code="dicom.not_dicom")
        yield read_dicom(read_bytes(Path(unit)))


def _nifti(path: Path, given_s: float | None) -> Iterator[NumberedVolume | Ended]:
    header = check_whole(path)
    # Writers may put anything into the repetition time of a single volume's header.
    is_weak = header.n_volumes == 1 and set(header.stated_s) <= {"in the header"}
    tr_s = header.agreed(given_s if is_weak or not header.stated_s else None).tr_s
    file = named(0, _stem(path))
    echo = file.echo if file.echo.is_stated else None
    stem = os.path.join(path.parent, file.stem)
    is_run = header.n_volumes > 1
    series, number = _series_and_number(stem)
    if is_run:
        series, number = _digest(stem if echo is not None else str(path)), 1
    made = made_beside(_stem(path), lambda stem: any((path.parent / (stem + end)).exists() for end in _ENDINGS))
    kind = AS_ACQUIRED if made is None else Kind(computed=made)
    for volume in nifti_volumes(path, tr_s, 1):
        yield NumberedVolume(series, number - 1 + volume.index, volume, kind, is_run=is_run, echo=echo)
    if is_run:
        yield Ended(series)


def _stem(path: Path) -> str:
    return path.name[: path.name.lower().rindex(".nii")]


def _pair(par: Path, stem: str, given_s: float | None) -> Iterator[NumberedVolume | Ended]:
    """A pair of one volume has two numbers: one in its name, and the header's number of the volume in its run."""
    first = read_parrec(par)
    pairs = [first, *(read_parrec(par, echo.number) for echo in first.echoes if echo != first.echo)]
    tr_s = first.agreed(None if first.states_tr else given_s).tr_s
    is_run = first.n_volumes > 1
    series, number = (_digest(stem), 0) if is_run else _series_and_number(stem)
    # A volume's echoes follow one another.
    for volumes in zip_longest(*(pair.volumes(tr_s, 1) for pair in pairs)):
        for pair, volume in zip(pairs, volumes, strict=True):
            if volume is None:
                continue
            position = pair.dynamics[0] - 1 + volume.index if is_run else number - 1
            echo, echoes = (pair.echo, pair.echoes) if len(pairs) > 1 else (None, ())
            stated = None if is_run else pair.dynamics[0]
            yield NumberedVolume(series, position, volume, is_run=is_run, echo=echo, echoes=echoes, stated=stated)
    if is_run:
        yield Ended(series)


def _series_and_number(stem: str) -> tuple[str, int]:
    """A digest of what the names of one series have in common, and the file's number in it; 1 without a number."""
    folder, name = os.path.split(stem)
    match = _SPM.match(name) or _COUNTED.match(name)
    if match is None:
        return _digest(stem), 1
    return _digest(os.path.join(folder, f"{match['before']}#{match['after']}")), int(match["number"])


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
