"""NIfTI files of one run → its volumes: one 4-D file, or 3-D files in the order of the numbers in their names.

Knows nothing of other formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.files import Contents, OnBad, each, read_heads, strictly
from mindsight.scanner.nifti import NiftiHeader, check_whole, nifti_volumes, read_nifti_header
from mindsight.volume import Volume


def nifti_series(files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad) -> Contents:
    notes: list[str] = []

    def head(place: int) -> NiftiHeader:
        is_last = on_bad is strictly and 1 < place == len(files)
        return check_whole(files[place - 1]) if is_last else read_nifti_header(files[place - 1])

    headers = read_heads(len(files), head, on_bad, notes)
    if len(files) > 1 and any(header.n_volumes != 1 for header in headers.values()):
        raise BadVolume("expected one 4-D file or 3-D files, got several runs; name one of them", code="series.several")
    agreed = next(iter(headers.values())).agreed(tr_s)
    tr = agreed.tr_s
    notes += agreed.notes
    if len(files) == 1:

        def whole(on_bad: OnBad) -> Iterator[Volume]:
            try:
                yield from nifti_volumes(files[0], tr, run)
            except BadVolume as error:
                on_bad(error)

        return Contents(headers[1].n_volumes, whole, tuple(notes))

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        def read(place: int) -> Volume:
            (volume,) = nifti_volumes(files[place - 1], tr, run, place - 1)
            return volume

        yield from each(headers, len(files), read, on_bad)

    return Contents(max(headers), volumes, tuple(notes))
