"""NIfTI files of one run → its volumes: one 4-D file, or 3-D files in the order of the numbers in their names.

Knows nothing of other formats. What names say is in ``file_names.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mindsight.errors import BadVolume
from mindsight.scanner.echoes import Echo, EchoChoice
from mindsight.scanner.formats.echo_series import with_echoes
from mindsight.scanner.formats.file_names import Named, indices, named, originals, runs_of
from mindsight.scanner.formats.files import LEFT_CUT_OFF, Contents, OnBad, each, is_cut_off, read_heads, strictly
from mindsight.scanner.formats.nifti import NiftiHeader, check_whole, is_packed, nifti_volumes, read_nifti_header
from mindsight.volume import Volume

Headers = Mapping[int, NiftiHeader]


def nifti_series(
    files: Sequence[Path], run: int, tr_s: float | None, on_bad: OnBad, echo: EchoChoice = None
) -> Contents:
    notes: list[str] = []
    headers = read_heads(len(files), lambda file_number: read_nifti_header(files[file_number - 1]), on_bad, notes)
    known, copy_notes = _without_copies([named(k, _stem(path)) for k, path in enumerate(files, 1)], headers)
    notes += copy_notes
    known = _timed(known, headers)
    echoes = {file.echo for file in known if file.echo.is_stated}
    if len(echoes) < 2:  # nothing to tell apart
        echoes = echoes or {Echo()}
        known = [replace(file, echo=next(iter(echoes))) for file in known]
    elif any(file.echo not in echoes for file in known):
        notes.append("left out files whose names state no echo")

    def series(one: Echo) -> Contents:
        return _of_echo([file for file in known if file.echo == one], files, headers, run, tr_s, on_bad)

    return with_echoes(sorted(echoes, key=lambda one: one.rank), series, echo, notes)


def _timed(files: Sequence[Named], headers: Headers) -> list[Named]:
    """With the echo times that the JSON files beside state, one for each number."""
    times_ms: dict[int | None, float | None] = {}
    for file in files:
        if file.file_number in headers and headers[file.file_number].echo_time_ms is not None:
            times_ms.setdefault(file.echo.number, headers[file.file_number].echo_time_ms)
    return [
        replace(file, echo=replace(file.echo, time_ms=times_ms.get(file.echo.number))) if file.echo.is_stated else file
        for file in files
    ]


def _stem(path: Path) -> str:
    return path.name[: path.name.lower().rindex(".nii")]


def _without_copies(files: Sequence[Named], headers: Headers) -> tuple[list[Named], list[str]]:
    """One of each file that exists both compressed and uncompressed. Both hold the same run if their headers agree."""
    kept: dict[tuple[str, Echo], Named] = {}
    n_left = 0
    for file in files:
        first = kept.setdefault((file.stem, file.echo), file)
        if first is file:
            continue
        same = [
            (one.shape, one.n_volumes) for one in (headers.get(first.file_number), headers.get(file.file_number)) if one
        ]
        if len(set(same)) > 1:
            _refuse()
        if first.file_number not in headers:
            kept[file.stem, file.echo] = file
        n_left += 1
    return list(kept.values()), [f"left out {n_left} copies (compressed or not)"] if n_left else []


def _refuse() -> None:
    raise BadVolume("expected one 4-D file or 3-D files, got several runs; name one of them", code="series.several")


def _of_echo(
    named_files: list[Named],
    files: Sequence[Path],
    headers: Headers,
    run: int,
    tr_s: float | None,
    on_bad: OnBad,
) -> Contents:
    numbered, notes = _one_run(named_files, headers)
    file_numbers = {index: file.file_number for index, file in numbered.items()}
    good = [file_number for file_number in file_numbers.values() if file_number in headers]
    if not good:
        raise BadVolume("expected volumes of this echo, got none that can be read", code="series.empty")
    agreed = headers[good[0]].agreed(tr_s)
    tr = agreed.tr_s
    notes += agreed.notes
    if len(file_numbers) == 1:
        return _whole_file(files[good[0] - 1], headers[good[0]], tr, run, notes, on_bad)
    if on_bad is strictly:
        notes += _left_last(file_numbers, files)
    index_of = {file_number: index for index, file_number in file_numbers.items()}

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        def read(file_number: int) -> Volume:
            (volume,) = nifti_volumes(files[file_number - 1], tr, run, index_of[file_number])
            return volume

        yield from each(
            [file_number for file_number in file_numbers.values() if file_number in headers], len(files), read, on_bad
        )

    return Contents(max(file_numbers) + 1, volumes, tuple(notes))


def _one_run(named_files: list[Named], headers: Headers) -> tuple[dict[int, Named], list[str]]:
    """The files of the one run by index, and what was left out. Raises BadVolume if there are several."""
    acquired, kinds = originals(named_files)
    runs = runs_of(acquired)
    sizes = [
        sum(headers[f.file_number].n_volumes if f.file_number in headers else 1 for f in one.values()) for one in runs
    ]
    longest = [one for one, size in zip(runs, sizes, strict=True) if size > 1]
    chosen = longest[0] if len(longest) == 1 else runs[0]
    if len(longest) > 1 or (not longest and len(runs) > 1):
        _refuse()
    if len(chosen) > 1 and any(
        f.file_number in headers and headers[f.file_number].n_volumes != 1 for f in chosen.values()
    ):
        _refuse()
    kinds += ["single"] * (len(acquired) - len(chosen))
    notes = [f"left out {_counted(kinds)}"] if kinds else []
    found, note = indices(list(chosen))
    notes += [] if note is None else [note]
    return {found[number]: chosen[number] for number in sorted(chosen)}, notes


def _counted(kinds: list[str]) -> str:
    return " and ".join(f"{n} {kind} image{'s' * (n > 1)}" for kind, n in Counter(kinds).items())


def _left_last(file_numbers: dict[int, int], files: Sequence[Path]) -> list[str]:
    """Leaves out the last file if it is truncated: the run was stopped."""
    try:
        check_whole(files[file_numbers[max(file_numbers)] - 1])
    except BadVolume as error:
        if not is_cut_off(error):
            return []
        del file_numbers[max(file_numbers)]
        return [LEFT_CUT_OFF]
    return []


def _whole_file(path: Path, header: NiftiHeader, tr_s: float, run: int, notes: list[str], on_bad: OnBad) -> Contents:
    """In strict reading the last volume is left out if only it is incomplete: the run was stopped."""
    n_volumes = header.n_volumes
    if on_bad is strictly and n_volumes > 1 and not is_packed(path):
        n_bytes = path.stat().st_size - header.offset
        if n_bytes // header.volume_bytes == n_volumes - 1:
            n_volumes -= 1
            notes = [*notes, LEFT_CUT_OFF]

    def whole(on_bad: OnBad) -> Iterator[Volume]:
        found = nifti_volumes(path, tr_s, run)
        try:
            yield from found if n_volumes == header.n_volumes else _until(found, n_volumes)
        except BadVolume as error:
            on_bad(error)

    return Contents(n_volumes, whole, tuple(notes))


def _until(volumes: Iterator[Volume], n_volumes: int) -> Iterator[Volume]:
    """Those before the one that is in part, which is not asked for."""
    for volume in volumes:
        yield volume
        if volume.index == n_volumes - 1:
            return
