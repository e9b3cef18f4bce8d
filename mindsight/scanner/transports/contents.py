"""What a whole file of a watched folder holds: a DICOM object, the volumes of a NIfTI file or of a PAR/REC pair.

Knows nothing of time or of which files are whole. Names choose the format, tell series apart where the file does not
(NIfTI and PAR/REC know no series), and go nowhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord, read_dicom
from mindsight.scanner.files import read_bytes
from mindsight.scanner.formats import other_format
from mindsight.scanner.kinds import Kind
from mindsight.scanner.names import made_beside, named
from mindsight.scanner.nifti import check_whole, is_nifti, nifti_volumes
from mindsight.scanner.parrec import is_parrec, read_parrec
from mindsight.scanner.transports.arrivals import AS_ACQUIRED, Ended, Placed

PAIR = ".{par,rec}"
_ENDINGS = (".nii", ".nii.gz")
_SPELLINGS = (".par", ".PAR", ".Par"), (".rec", ".REC", ".Rec")

# SPM's names: subject-SSSS-AAAAA-IIIIII-EE, of which acquisition and image count, without the echo at their end.
_SPM = re.compile(r"^(?P<before>.*-\d{4}-)\d{5}-(?P<number>\d{6})(?P<after>)$", re.DOTALL)
_COUNTED = re.compile(r"^(?P<before>.*?)(?P<number>\d{1,9})(?P<after>\D*)$", re.DOTALL)


def unit_of(path: str) -> str:
    """What is read as one: the file, or the pair that it belongs to."""
    return path[:-4] + PAIR if is_parrec(Path(path)) else path


def members(unit: str) -> tuple[str, ...]:
    """The files that have to be there, whole, for a unit to be read; of a pair those that are there."""
    if not unit.endswith(PAIR):
        return (unit,)
    stem = unit[: -len(PAIR)]
    found = (next((stem + s for s in spellings if os.path.lexists(stem + s)), None) for spellings in _SPELLINGS)
    return tuple(path for path in found if path is not None)


def read_unit(unit: str, tr_s: float | None) -> Iterator[DicomRecord | Placed | Ended]:
    """What the unit holds; a run of several volumes one at a time.

    tr_s : of files that state none

    Raises BadVolume before the first where the unit is not whole.
    """
    if unit.endswith(PAIR):
        files = members(unit)
        if len(files) < 2:
            raise BadVolume("expected a PAR and a REC file of the same name; one is missing", code="parrec.no_pair")
        yield from _pair(Path(files[0]), unit[: -len(PAIR)], tr_s)
    elif is_nifti(Path(unit)):
        yield from _nifti(Path(unit), tr_s)
    else:
        other = other_format([Path(unit)])
        if other is not None:
            raise BadVolume(f"expected DICOM, PAR/REC or NIfTI, got {other}", code="dicom.not_dicom")
        yield read_dicom(read_bytes(Path(unit)))


def _nifti(path: Path, given_s: float | None) -> Iterator[Placed | Ended]:
    header = check_whole(path)
    # What the header of one volume states, writers may have filled with anything.
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
        yield Placed(series, number - 1 + volume.index, volume, kind, is_run=is_run, echo=echo)
    if is_run:
        yield Ended(series)


def _stem(path: Path) -> str:
    return path.name[: path.name.lower().rindex(".nii")]


def _pair(par: Path, stem: str, given_s: float | None) -> Iterator[Placed | Ended]:
    """A pair of one volume has two numbers: that of its name, and that of the volume in its run, by its header."""
    first = read_parrec(par)
    pairs = [first, *(read_parrec(par, echo.number) for echo in first.echoes if echo != first.echo)]
    tr_s = first.agreed(None if first.states_tr else given_s).tr_s
    is_run = first.n_volumes > 1
    series, number = (_digest(stem), 0) if is_run else _series_and_number(stem)
    # The echoes of a volume come one after the other.
    for volumes in zip_longest(*(pair.volumes(tr_s, 1) for pair in pairs)):
        for pair, volume in zip(pairs, volumes, strict=True):
            if volume is None:
                continue
            position = pair.dynamics[0] - 1 + volume.index if is_run else number - 1
            echo, echoes = (pair.echo, pair.echoes) if len(pairs) > 1 else (None, ())
            stated = None if is_run else pair.dynamics[0]
            yield Placed(series, position, volume, is_run=is_run, echo=echo, echoes=echoes, stated=stated)
    if is_run:
        yield Ended(series)


def _series_and_number(stem: str) -> tuple[str, int]:
    """What the names of one series have in common, as a digest, and the number they count with; 1 without one."""
    folder, name = os.path.split(stem)
    match = _SPM.match(name) or _COUNTED.match(name)
    if match is None:
        return _digest(stem), 1
    return _digest(os.path.join(folder, f"{match['before']}#{match['after']}")), int(match["number"])


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
