"""DICOM objects of one run → its volumes: mosaics, enhanced objects, or an object per slice.

Knows nothing of other formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Echo, EchoChoice, echoes_in, of_echo, stride_of
from mindsight.scanner.formats.dicom_header import DicomRecord, read_dicom
from mindsight.scanner.formats.dicom_timing import began_s, moments_of, objects_timing, slices_timing
from mindsight.scanner.formats.echo_series import with_echoes
from mindsight.scanner.formats.enhanced import enhanced_positions, enhanced_volume, enhanced_volumes, is_enhanced
from mindsight.scanner.formats.files import (
    LEFT_CUT_OFF,
    Contents,
    OnBad,
    counted_from,
    each,
    is_cut_off,
    read_bytes,
    read_heads,
    stated_tr,
    strictly,
)
from mindsight.scanner.formats.image_type import preferred
from mindsight.scanner.formats.mosaic import directed, is_mosaic, mosaic_note, mosaic_volume
from mindsight.scanner.formats.object_numbers import object_numbers
from mindsight.scanner.formats.scaling import of_another_scale
from mindsight.scanner.formats.slices import group_slices, slices_volume
from mindsight.volume import Volume
from mindsight.volume_bounds import is_tr


def record_volume(record: DicomRecord, run: int, index: int, tr_s: float | None = None) -> Volume:
    """The volume of one DICOM object that holds a whole one: a mosaic, an enhanced object. Raises BadVolume."""
    if record.modality != "MR":
        raise BadVolume("expected an MR image, got another modality", code="dicom.not_mr")
    tr_s = stated_tr(tr_s, record.tr_s if is_tr(record.tr_s) else None)
    if is_mosaic(record):
        return mosaic_volume(record, tr_s, run, index)
    if is_enhanced(record):
        return enhanced_volume(record, tr_s, run, index)
    raise BadVolume(
        "expected a whole volume in the file (mosaic or enhanced DICOM), got one slice; read the folder as a series",
        code="dicom.layout",
    )


def dicom_series(
    files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad, echo: EchoChoice = None
) -> Contents:
    n, notes, known = len(files), list[str](), list[Echo]()

    def head(file_number: int) -> DicomRecord | None:
        try:
            record = read_dicom(read_bytes(files[file_number - 1]), header_only=True)
        except BadVolume as error:
            if error.code != "dicom.not_mr" or n == 1:
                raise
            return None
        return record if record.modality == "MR" or n == 1 else None

    read_in = read_heads(n, head, on_bad, notes)
    n_bad = n - len(read_in)
    found = {file_number: record for file_number, record in read_in.items() if record is not None}
    if not found:
        raise BadVolume("expected MR images, got other objects", code="dicom.not_mr")
    n_foreign = len(read_in) - len(found)
    notes += (
        [f"left out {n_foreign} objects that are not MR images (reports, raw data, screenshots)"] if n_foreign else []
    )
    chosen, note = preferred(found)
    notes += [] if note is None else [note]
    normal = next(
        (found[file_number].csa_normal for file_number in chosen if found[file_number].csa_normal is not None), None
    )
    found = {file_number: directed(found[file_number], normal) for file_number in chosen}
    notes += dict.fromkeys(note for file_number in chosen if (note := mosaic_note(found[file_number])) is not None)
    frames = {file_number: echoes_in(found[file_number], known) for file_number in chosen}
    numbering = _EchoNumbers({file_number: found[file_number] for file_number in chosen}, frames, known)

    def series(one: Echo) -> Contents:
        heads = {
            file_number: numbering.record(file_number, found[file_number], one)
            for file_number in chosen
            if one in frames[file_number]
        }

        def read(file_number: int) -> DicomRecord:
            return numbering.record(file_number, directed(read_dicom(read_bytes(files[file_number - 1])), normal), one)

        return _series(heads, read, n, n_bad, run, tr_s, on_bad)

    return with_echoes(known, series, echo, notes)


def _series(
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    n: int,
    n_bad: int,
    run: int,
    tr_s: float | None,
    on_bad: OnBad,
) -> Contents:
    """The series of one echo. n, n_bad : number of files, and of those that could not be read."""
    again = _again(heads, read)
    heads = {file_number: record for file_number, record in heads.items() if file_number not in again}
    for file_number, error in of_another_scale(heads).items():
        on_bad(BadVolume(f"file {file_number} of {n} by name: {error}", code=error.code, file=file_number))
        del heads[file_number]
        n_bad += 1
    contents = _series_once(heads, read, n, n_bad, run, tr_s, on_bad)
    copies = "a copy of another file" if len(again) == 1 else f"{len(again)} copies of other files"
    return replace(contents, notes=(f"left out {copies}", *contents.notes)) if again else contents


def _again(heads: dict[int, DicomRecord], read: Callable[[int], DicomRecord]) -> set[int]:
    """Files with the same content as an earlier one: copies that a download or an archive made."""
    alike: dict[DicomRecord, list[int]] = {}
    for file_number, record in heads.items():
        alike.setdefault(record, []).append(file_number)
    again: set[int] = set()
    for file_numbers in alike.values():
        met: set[bytes] = set()
        for file_number in file_numbers if len(file_numbers) > 1 else ():
            try:
                pixels = hashlib.sha256(read(file_number).pixels).digest()
            except BadVolume:  # reading the volume raises it again
                continue
            if pixels in met:
                again.add(file_number)
            met.add(pixels)
    return again


def _series_once(
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    n: int,
    n_bad: int,
    run: int,
    tr_s: float | None,
    on_bad: OnBad,
) -> Contents:
    """The series without copies and without objects of another scale."""
    if not all(is_mosaic(record) or is_enhanced(record) for record in heads.values()):
        if len(heads) == 1:
            record_volume(next(iter(heads.values())), run, 0, tr_s)  # raises: one slice is not a series
        return _slices_series(heads, read, run, tr_s, on_bad)
    numbers, number_notes = object_numbers(heads)
    file_numbers = _in_order(numbers, n, n_bad, on_bad)
    if any(is_enhanced(record) and len(enhanced_positions(record)) > 1 for record in heads.values()):
        several = _objects_series(list(file_numbers.values()), heads, read, run, tr_s, on_bad)
        return replace(several, notes=(*number_notes, *several.notes))
    notes = (*number_notes, *_left_last(file_numbers, heads, read, on_bad))
    indices = {file_number: index for index, file_number in file_numbers.items()}
    moments = {
        index: next(iter(moments_of(heads[file_number]).values())) for index, file_number in file_numbers.items()
    }
    timing = objects_timing([heads[file_number] for file_number in file_numbers.values()], moments, tr_s)

    def read_one(file_number: int) -> Volume:
        return timing.applied(record_volume(read(file_number), run, indices[file_number], timing.tr_s))

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        yield from each(file_numbers.values(), n, read_one, on_bad)

    return Contents(max(file_numbers) + 1, volumes, (*notes, *timing.notes))


class _EchoNumbers:
    """Numbers of the objects of one echo. If one count runs through all echoes, each echo has every n-th number.

    frames : each object's echoes, frame by frame
    """

    def __init__(self, heads: dict[int, DicomRecord], frames: dict[int, list[Echo]], echoes: Sequence[Echo]) -> None:
        self._frames = frames
        numbers = {
            echo: {heads[file_number].instance_number or 0 for file_number, own in frames.items() if echo in own}
            for echo in echoes
        }
        self._stride = stride_of(list(numbers.values()))

    def record(self, file_number: int, record: DicomRecord, echo: Echo) -> DicomRecord:
        own = of_echo(record, echo, self._frames[file_number])
        number = own.instance_number
        if self._stride == 1 or number is None:
            return own
        return replace(own, instance_number=(number - 1) // self._stride + 1, images_in_acquisition=None)


def _left_last(
    file_numbers: dict[int, int], heads: dict[int, DicomRecord], read: Callable[[int], DicomRecord], on_bad: OnBad
) -> tuple[str, ...]:
    """Removes the last object if a stopped run left it incomplete, and returns a note.

    With an ``on_bad`` other than ``strictly`` the object stays, and ``on_bad`` is called when iteration reaches it.
    """
    last = max(file_numbers)
    if len(file_numbers) == 1 or on_bad is not strictly:
        return ()
    counts = {index: len(_locations_of(heads[file_number])) for index, file_number in file_numbers.items()}
    usual = max(counts.values())
    if counts[last] < usual:
        del file_numbers[last]
        return (_left_text(counts[last], usual),)
    try:
        read(file_numbers[last])
    except BadVolume as error:
        if is_cut_off(error):
            del file_numbers[last]
            return (LEFT_CUT_OFF,)
    return ()


def _locations_of(record: DicomRecord) -> list[int]:
    """Frames of the last volume in the object."""
    if not is_enhanced(record):
        return [0]
    positions = enhanced_positions(record)
    return positions[max(positions)]


def _left_text(n: object, n_slices: object) -> str:
    return f"left out the last volume, which has {n} of {n_slices} slices"


def _objects_series(
    file_numbers: Sequence[int],
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    run: int,
    tr_s: float | None,
    on_bad: OnBad,
) -> Contents:
    """Enhanced objects with several volumes each, one object after the other."""
    positions = [enhanced_positions(heads[file_number]) for file_number in file_numbers]
    spans = [max(numbers) - min(numbers) + 1 for numbers in positions]
    notes: tuple[str, ...] = ()
    usual, last = max(len(frames) for numbers in positions for frames in numbers.values()), positions[-1]
    if on_bad is strictly and len(last[max(last)]) < usual and sum(map(len, positions)) > 1:
        notes = (_left_text(len(last[max(last)]), usual),)
        spans[-1] -= 1
    n_volumes = sum(spans)
    firsts = list(accumulate(spans, initial=0))[:-1]
    moments = {
        first + number - min(of_object): moment
        for file_number, first in zip(file_numbers, firsts, strict=True)
        for of_object in [moments_of(heads[file_number])]
        for number, moment in of_object.items()
        if first + number - min(of_object) < n_volumes
    }
    timing = objects_timing([heads[file_number] for file_number in file_numbers], moments, tr_s)

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        for file_number, first_index in zip(file_numbers, firsts, strict=True):
            for record in each([file_number], len(heads), read, on_bad):
                for volume in enhanced_volumes(record, timing.tr_s, run, first_index, on_bad):
                    if volume.index < n_volumes:
                        yield timing.applied(volume)

    return Contents(n_volumes, volumes, (*notes, *timing.notes))


def _slices_series(
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    run: int,
    tr_s: float | None,
    on_bad: OnBad,
) -> Contents:
    met: list[BadVolume] = []
    groups = group_slices(list(heads.items()), met.append)
    notes = _stopped(groups, met, read, on_bad)
    for error in met:
        on_bad(error)
    members = {index: [heads[file_number] for file_number in group] for index, group in groups.items()}
    timing = slices_timing(members, tr_s)

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        for index, group in groups.items():
            try:
                volume = slices_volume(
                    [read(file_number) for file_number in group], timing.tr_s, run, index, began_s(members[index])
                )
            except BadVolume as error:
                on_bad(BadVolume(f"volume {index}: {error}", code=error.code, **error.details))
            else:
                yield timing.applied(volume)

    return Contents(max(groups) + 1, volumes, (*timing.notes, *notes))


def _stopped(
    groups: dict[int, list[int]], met: list[BadVolume], read: Callable[[int], DicomRecord], on_bad: OnBad
) -> tuple[str, ...]:
    """In strict reading: removes the last volume from both if slices of it are missing or cut off; returns a note."""
    incomplete = {int(error.details["volume"] or 0): error for error in met if "volume" in error.details}
    last = max([*groups, *incomplete])
    if on_bad is not strictly or (len(groups) == 1 and last in groups):
        return ()
    if last in incomplete:
        met.remove(incomplete[last])
        return (_left_text(incomplete[last].details["slices"], incomplete[last].details["of"]),)
    try:
        for file_number in groups[last]:
            read(file_number)
    except BadVolume as error:
        if is_cut_off(error):
            del groups[last]
            return (LEFT_CUT_OFF,)
    return ()


def _in_order(numbered: dict[int, int], n: int, n_bad: int, on_bad: OnBad) -> dict[int, int]:
    """Index of the volume → number of its file, in acquisition order; a repeated number is an error.

    numbered : number by file
    n, n_bad : number of files, and of those that could not be read
    """
    numbers: dict[int, int] = {}
    for file_number, number in numbered.items():
        if number in numbers:
            text = (
                f"files {numbers[number]} and {file_number} of {n} have the same instance number, {number}; remove one"
            )
            on_bad(BadVolume(text, code="series.duplicate", file=file_number))
            continue
        numbers[number] = file_number
    first = counted_from({file_number: number for number, file_number in numbers.items()}, n_bad)
    return {number - first: numbers[number] for number in sorted(numbers)}
