"""What a scanner's files are: as tables for a person, or as facts for JSON. Knows nothing of reading them."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mindsight.scanner.beside import NO_EVENTS
from mindsight.scanner.formats.image_type import MAGNITUDE
from mindsight.scanner.survey import AS_STORED, Survey, Surveyed
from mindsight.volume_bounds import same_tr

PIPE_WIDTH = 120  # of output that goes to a file
MAX_LISTED = 8  # volumes or reasons, then the rest is counted

Numbered = list[tuple[int, Surveyed]]


def facts(found: Survey) -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "can_decode": found.can_decode,
        "missing": list(found.needed),
        "series": [asdict(one) | {"is_run": not one.left_out} for one in found.series],
        "unreadable": list(found.unreadable),
        "n_other_files": found.n_other,
        "n_events": found.n_events,
        "notes": list(found.notes),
    }


def print_survey(found: Survey) -> None:
    """Print the runs, the series that are left out, and whether decoding can start."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    numbered = list(enumerate(found.series, 1))
    runs, left = ([(n, one) for n, one in numbered if bool(one.left_out) is out] for out in (False, True))
    if runs:
        console.print(_runs(runs))
    if left:
        console.print(_left(left))
    for text in _notes(found, numbered):
        console.print(Text(text))
    if found.can_decode:
        _line(console, f"Decoding can start: {_counted(len(runs), 'run')}.", "bold")
    else:
        _line(console, "Decoding cannot start.", "bold")
    for what in found.needed:
        _line(console, f"  Still needed: {what}.")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style))


def _runs(runs: Numbered) -> Table:
    table = _table("Runs")
    table.add_column("", justify="right")
    table.add_column("format")
    for name in ("files", "volumes"):
        table.add_column(name, justify="right")
    for name in ("matrix", "voxels, mm", "TR, s", "slice times", "echoes, ms"):
        table.add_column(name, overflow="fold")
    scaled = any(one.scaling != AS_STORED for _, one in runs)
    if scaled:
        table.add_column("values")
    for number, one in runs:
        cells = [str(number), _format(one), str(one.n_files), str(one.n_volumes)]
        cells += [_sides(one.shape or ()), _sides(one.voxel_mm), _tr(one), _slice_times(one), _echoes(one)]
        table.add_row(*cells, *([one.scaling] if scaled else []))
    return table


def _left(left: Numbered) -> Table:
    table = _table("Left out")
    table.add_column("", justify="right")
    table.add_column("format")
    table.add_column("files", justify="right")
    table.add_column("why", ratio=1)
    for number, one in left:
        table.add_row(str(number), _format(one), str(one.n_files), one.left_out)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _format(one: Surveyed) -> str:
    named = f"{one.vendor} {one.format}" if one.vendor and one.vendor not in one.format else one.format
    return named if one.holds in (MAGNITUDE, "") else f"{named}, {one.holds}"


def _sides(sides: tuple[float, ...]) -> str:
    return "×".join(f"{round(side, 2):g}" for side in sides)


def _echoes(one: Surveyed) -> str:
    return " ".join(f"{time:g}" for time in one.echo_times_ms) or "not stated"


def _tr(one: Surveyed) -> str:
    """The TR that is used; in brackets what the header or the volumes' clock states otherwise."""
    if one.tr_s is None:
        return "not known"
    others = []
    if one.tr_header_s is not None and not same_tr(one.tr_header_s, one.tr_s):
        others.append(f"header {one.tr_header_s:g}")
    if one.tr_clock_s is None:
        others.append("no clock")
    elif not same_tr(one.tr_clock_s, one.tr_s):
        others.append(f"clock {round(one.tr_clock_s, 4):g}")
    return f"{one.tr_s:g}" + (f" ({', '.join(others)})" if others else "")


def _slice_times(one: Surveyed) -> str:
    if not one.has_slice_times:
        return "unknown"
    return "known" if one.slices_at_once in (None, 1) else f"known, {one.slices_at_once} at once"


def _notes(found: Survey, numbered: Numbered) -> list[str]:
    """Each note once, with the numbers of its series; then the other files."""
    series: dict[str, list[int]] = {}
    for number, one in numbered:
        for note in one.notes:
            series.setdefault(note, []).append(number)
        if one.missing:
            series.setdefault(f"missing or incomplete: {_listed(one.missing)}", []).append(number)
    notes = [f"  {_of(numbers)}: {text}" for text, numbers in series.items()]
    cut = len(found.unreadable) - MAX_LISTED
    notes += [f"  cannot be read: {text}" for text in found.unreadable[:MAX_LISTED]]
    notes += [f"  and {_counted(cut, 'other file')} cannot be read (--json lists all)"] if cut > 0 else []
    if found.n_other:
        notes.append(f"  {_counted(found.n_other, 'file')} of other kinds ignored")
    if found.n_events:
        notes.append(f"  {_counted(found.n_events, 'event')} in the table beside")
    return notes + [f"  {note}" for note in found.notes if note != NO_EVENTS]  # it is under "still needed"


def _of(numbers: list[int]) -> str:
    """In short form, ``series 1, 3-4``: a folder may have a hundred."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return "series " + ", ".join("-".join(map(str, span)) for span in spans)


def _listed(volumes: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, volumes[:MAX_LISTED]))
    more = len(volumes) - MAX_LISTED
    named = f"volume {shown}" if len(volumes) == 1 else f"volumes {shown}"
    return f"{named} and {more} more" if more > 0 else named


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
