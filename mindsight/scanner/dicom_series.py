"""DICOM objects of one run → its volumes: mosaics, enhanced objects, or an object per slice.

Knows nothing of other formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.deidentify import DicomRecord, read_dicom
from mindsight.scanner.enhanced import enhanced_positions, enhanced_volume, enhanced_volumes, is_enhanced
from mindsight.scanner.files import Contents, OnBad, counted_from, each, named, read_bytes, read_heads, stated_tr
from mindsight.scanner.kinds import preferred
from mindsight.scanner.mosaic import is_mosaic, mosaic_volume
from mindsight.scanner.slices import group_slices, slices_volume, stacked_times_s
from mindsight.volume import Volume


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


def dicom_series(files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad) -> Contents:
    n = len(files)

    def read(place: int) -> DicomRecord:
        return read_dicom(read_bytes(files[place - 1]))

    found = read_heads(n, lambda place: read_dicom(read_bytes(files[place - 1]), header_only=True), on_bad)
    chosen, note = preferred(found)
    heads = {place: found[place] for place in chosen}
    notes = () if note is None else (note,)
    if all(is_mosaic(record) or is_enhanced(record) for record in heads.values()):
        places = _numbered(heads, n, n - len(found), on_bad)
        if any(is_enhanced(record) and len(enhanced_positions(record)) > 1 for record in heads.values()):
            return _objects_series(list(places.values()), heads, read, run, tr_s, notes)
        indices = {place: index for index, place in places.items()}

        def volumes(on_bad: OnBad) -> Iterator[Volume]:
            yield from each(
                places.values(), n, lambda place: record_volume(read(place), run, indices[place], tr_s), on_bad
            )

        return Contents(max(places) + 1, volumes, notes)

    if len(heads) == 1:
        record_volume(heads[chosen[0]], run, 0, tr_s)  # says that one slice is no series
    return _slices_series(heads, read, run, tr_s, notes, on_bad)


def _objects_series(
    places: Sequence[int],
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    run: int,
    tr_s: float | None,
    notes: tuple[str, ...],
) -> Contents:
    """Enhanced objects with several volumes each, one object after the other."""
    tr = stated_tr(tr_s, heads[places[0]].tr_s)
    spans = [max(numbers) - min(numbers) + 1 for numbers in (enhanced_positions(heads[place]) for place in places)]

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        for place, first_index in zip(places, accumulate(spans, initial=0), strict=False):
            try:
                with named(place, len(heads)):
                    yield from enhanced_volumes(read(place), tr, run, first_index)
            except BadVolume as error:
                on_bad(error)

    return Contents(sum(spans), volumes, notes)


def _slices_series(
    heads: dict[int, DicomRecord],
    read: Callable[[int], DicomRecord],
    run: int,
    tr_s: float | None,
    notes: tuple[str, ...],
    on_bad: OnBad,
) -> Contents:
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

    return Contents(max(groups) + 1, volumes, notes)


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
    first = counted_from({place: number for number, place in numbers.items()}, n_bad)
    return {number - first: numbers[number] for number in sorted(numbers)}
