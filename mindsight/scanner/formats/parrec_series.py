"""PAR/REC pairs of one run → its volumes: one pair for the run, or one per volume.

Knows nothing of other formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Echo, EchoChoice, canonical
from mindsight.scanner.formats.echo_series import with_echoes
from mindsight.scanner.formats.file_names import Named, indices, runs_of
from mindsight.scanner.formats.files import Contents, OnBad, counted_from, each, read_heads
from mindsight.scanner.formats.parrec import ParRec, read_parrec
from mindsight.scanner.timing import agreed_tr, pace_of, usual_tr
from mindsight.volume import Volume


def parrec_series(
    files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad, echo: EchoChoice = None
) -> Contents:
    notes: list[str] = []
    found = read_heads(len(files), lambda file_number: read_parrec(files[file_number - 1]), on_bad, notes)
    echoes: list[Echo] = []
    for pair in found.values():
        for one in pair.echoes:
            canonical(one, echoes)

    def series(one: Echo) -> Contents:
        pairs = {
            file_number: pair if pair.echo.is_same(one) else read_parrec(files[file_number - 1], one.number)
            for file_number, pair in found.items()
            if any(other.is_same(one) for other in pair.echoes)
        }
        return _of_echo(pairs, files, run, tr_s)

    return with_echoes(echoes, series, echo, notes)


def _of_echo(pairs: dict[int, ParRec], files: Sequence[Path], run: int, tr_s: float | None) -> Contents:
    first = next(iter(pairs.values()))
    if len(files) == 1:
        agreed = first.agreed(tr_s)
        return Contents(first.n_volumes, lambda _: first.volumes(agreed.tr_s, run), (*agreed.notes, *first.notes))
    if any(pair.n_volumes != 1 for pair in pairs.values()):
        raise BadVolume("expected one run, or pairs of one volume; got several runs; name one", code="series.several")
    index_of, notes = _indices(pairs, files)
    pace = pace_of({index_of[file_number]: pair.begins_s[0] for file_number, pair in pairs.items()})
    agreed = agreed_tr({"in the headers": usual_tr([pair.stated_s for pair in pairs.values()])}, pace, tr_s)
    notes += agreed.notes

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        def read(file_number: int) -> Volume:
            (volume,) = pairs[file_number].volumes(agreed.tr_s, run, index_of[file_number])
            return volume

        yield from each(sorted(pairs, key=index_of.__getitem__), len(files), read, on_bad)

    notes += [note for pair in pairs.values() for note in pair.notes]
    return Contents(max(index_of.values()) + 1, volumes, tuple(dict.fromkeys(notes)))


def _indices(pairs: dict[int, ParRec], files: Sequence[Path]) -> tuple[dict[int, int], list[str]]:
    """Index of each pair in the run: by the headers, or by the names if every header says that it is the first."""
    numbers = {file_number: pair.dynamics[0] for file_number, pair in pairs.items()}
    if len(set(numbers.values())) == len(pairs):
        first = counted_from(numbers, len(files) - len(pairs))
        return {file_number: number - first for file_number, number in numbers.items()}, []
    runs = runs_of([Named(file_number, path.stem, Echo()) for file_number, path in enumerate(files, 1)])
    if len(runs) != 1:
        first_index = counted_from({file_number: file_number for file_number in pairs}, len(files) - len(pairs))
        return {file_number: file_number - first_index for file_number in pairs}, []
    found, note = indices(list(runs[0]))
    index_of = {file.file_number: found[number] for number, file in runs[0].items() if file.file_number in pairs}
    return index_of, [] if note is None else [note]
