"""PAR/REC pairs of one run → its volumes: a pair for the run, or one for each volume.

Knows nothing of other formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.files import Contents, OnBad, counted_from, each, read_heads
from mindsight.scanner.parrec import read_parrec
from mindsight.scanner.timing import agreed_tr, pace_of, usual_tr
from mindsight.volume import Volume


def parrec_series(files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad) -> Contents:
    notes: list[str] = []
    pairs = read_heads(len(files), lambda place: read_parrec(files[place - 1]), on_bad, notes)
    first = next(iter(pairs.values()))
    if len(files) == 1:
        agreed = first.agreed(tr_s)
        return Contents(first.n_volumes, lambda _: first.volumes(agreed.tr_s, run), (*agreed.notes, *first.notes))
    if any(pair.n_volumes != 1 for pair in pairs.values()):
        raise BadVolume("expected one run, or pairs of one volume; got several runs; name one", code="series.several")
    # Each pair has its number in the run, or each says it is the first: then the names have the order.
    numbers = {place: pair.dynamics[0] for place, pair in pairs.items()}
    if len(set(numbers.values())) < len(pairs):
        numbers = {place: place for place in pairs}
    first_number = counted_from(numbers, len(files) - len(pairs))
    pace = pace_of({numbers[place]: pair.begins_s[0] for place, pair in pairs.items()})
    agreed = agreed_tr({"in the headers": usual_tr([pair.stated_s for pair in pairs.values()])}, pace, tr_s)
    notes += agreed.notes

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        def read(place: int) -> Volume:
            (volume,) = pairs[place].volumes(agreed.tr_s, run, numbers[place] - first_number)
            return volume

        yield from each(sorted(pairs, key=numbers.__getitem__), len(files), read, on_bad)

    n_volumes = max(numbers.values()) - first_number + 1
    return Contents(
        n_volumes, volumes, tuple(dict.fromkeys([*notes, *(note for pair in pairs.values() for note in pair.notes)]))
    )
