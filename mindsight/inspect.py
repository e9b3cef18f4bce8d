"""``mindsight inspect``: what a scanner's files are, as a table that a person reads the day before, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mindsight.scanner.survey import Survey, Surveyed, survey


def inspect(path: Path, *, as_json: bool) -> bool:
    """Prints it; whether decoding can start. Raises BadVolume where there is no such path."""
    found = survey(path)
    if as_json:
        print(json.dumps(_facts(found), indent=2))
    else:
        _print(found)
    return found.can_decode


def _facts(found: Survey) -> dict[str, object]:
    return {
        "can_decode": found.can_decode,
        "missing": list(_missing(found)),
        "series": [asdict(one) | {"is_run": not one.left_out} for one in found.series],
        "unreadable": list(found.unreadable),
        "n_other_files": found.n_other,
        "n_events": found.n_events,
        "notes": list(found.notes),
    }


def _missing(found: Survey) -> list[str]:
    """What still has to come before answers do."""
    missing = [] if found.runs else ["a series of volumes that can be read"]
    return missing if found.n_events else [*missing, "events: a table beside the run, with --events, or sent live"]


def _print(found: Survey) -> None:
    console = Console()
    for number, one in enumerate(found.series, 1):
        table = Table(title=f"series {number}: {_verdict(one)}", title_justify="left", show_header=False, min_width=60)
        for name, value in _rows(one):
            table.add_row(name, value)
        console.print(table)
        for note in one.notes:
            console.print(f"  {note}", markup=False, highlight=False)
    for text in found.unreadable:
        console.print(f"cannot be read: {text}", markup=False, highlight=False)
    if found.n_other:
        console.print(f"{found.n_other} files of other kinds were passed over")
    for note in found.notes:
        console.print(note, markup=False, highlight=False)
    verdict = f"yes, with {len(found.runs)} run(s)" if found.can_decode else "no"
    console.print(f"can decoding start? {verdict}", highlight=False)
    for what in _missing(found):
        console.print(f"  still missing: {what}", markup=False, highlight=False)


def _verdict(one: Surveyed) -> str:
    return f"left out: {one.left_out}" if one.left_out else f"a run of {one.n_volumes} volumes"


def _rows(one: Surveyed) -> list[tuple[str, str]]:
    missing = f", not whole: {', '.join(map(str, one.missing))}" if one.missing else ""
    rows = [("format", f"{one.format}, {one.n_files} file(s)"), ("scanner", one.vendor or "not stated")]
    rows += [("holds", f"{one.holds}, values {one.scaling}")]
    if one.shape is not None:
        size = f"{'×'.join(map(str, one.shape))} of {'×'.join(f'{side:g}' for side in one.voxel_mm)} mm"
        rows += [("volumes", f"{one.n_volumes}{missing}"), ("matrix", size)]
    rows.append(("TR", ", ".join((_s(one.tr_s, "taken"), _s(one.tr_header_s, "header"), _s(one.tr_clock_s, "clock")))))
    at_once = "" if one.slices_at_once is None else f", {one.slices_at_once} at once"
    rows.append(("slice times", f"known{at_once}" if one.has_slice_times else "unknown"))
    if one.echo_times_ms:
        rows.append(("echoes", ", ".join(f"{time:g} ms" for time in one.echo_times_ms)))
    return rows


def _s(seconds: float | None, whose: str) -> str:
    return f"{whose}: {'not known' if seconds is None else f'{seconds:g} s'}"
