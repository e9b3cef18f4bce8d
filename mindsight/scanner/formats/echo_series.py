"""Series of several echoes in files → the chosen one, or all of them combined.

Knows nothing of formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Combination, Echo, EchoChoice, choice_note, choose, combination_note, times_of
from mindsight.scanner.formats.files import Contents, OnBad
from mindsight.volume import Volume


def with_echoes(
    echoes: Sequence[Echo], series: Callable[[Echo], Contents], choice: EchoChoice, notes: Sequence[str] = ()
) -> Contents:
    """The series of the chosen echo, or of the combination.

    series : makes the series of one echo
    notes : earlier notes; those of the echoes and of their series follow

    Raises BadVolume if there is no such echo, or nothing to combine.
    """
    if choice == "combine":
        return _combined(sorted(echoes, key=lambda echo: echo.rank), series, notes)
    chosen = choose(echoes, choice)
    echo_notes = (choice_note(chosen, echoes),) if len(echoes) > 1 else ()
    contents = series(chosen)
    return replace(contents, notes=(*notes, *echo_notes, *contents.notes))


def _combined(echoes: Sequence[Echo], series: Callable[[Echo], Contents], notes: Sequence[str]) -> Contents:
    times_ms = times_of(echoes)
    parts = [series(echo) for echo in echoes]
    n_volumes = min(part.n_volumes for part in parts)
    all_notes = [*notes, combination_note(echoes)]
    if n_volumes < max(part.n_volumes for part in parts):
        all_notes.append(f"left out the volumes after volume {n_volumes - 1}, which lack echoes")

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        combination = Combination(times_ms)
        for index, found in _by_index([part.volumes(on_bad) for part in parts]):
            if index >= n_volumes:
                return
            try:
                if len(found) < len(parts):
                    raise BadVolume(
                        f"volume {index}: expected all echoes, got {len(found)} of {len(parts)}",
                        code="echoes.incomplete",
                        index=index,
                    )
                yield combination.volume(found)
            except BadVolume as error:
                on_bad(error)

    return Contents(
        n_volumes, volumes, tuple(dict.fromkeys([*all_notes, *(note for part in parts for note in part.notes)]))
    )


def _by_index(series: Sequence[Iterator[Volume]]) -> Iterator[tuple[int, list[Volume]]]:
    """The volumes of each index, in the order of the series; some series may lack one."""
    heads = [next(volumes, None) for volumes in series]
    while any(head is not None for head in heads):
        index = min(head.index for head in heads if head is not None)
        yield index, [head for head in heads if head is not None and head.index == index]
        heads = [
            next(volumes, None) if head is not None and head.index == index else head
            for head, volumes in zip(heads, series, strict=True)
        ]
