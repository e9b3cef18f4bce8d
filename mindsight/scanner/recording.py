"""What a transport delivered, kept as it came, to be replayed: a folder per run, a file per volume, with all clocks.

Knows nothing of transports or of the service. Files are payloads of ``volume_codec``, so a replayed volume is the one
that came, to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from mindsight.errors import BadVolume, MindsightError
from mindsight.events import EventsTable
from mindsight.files.durable import write_whole
from mindsight.scanner import RecordedRun, Series, open_run
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.files import OnBad, read_bytes, strictly
from mindsight.scanner.recorded import accompanied
from mindsight.scanner.transports import Item, TransportWarning
from mindsight.scanner.transports.guard import guarded
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume, encode_volume

_RUN = re.compile(r"run-(\d{3,9})")
_NAME = re.compile(r"volume-(\d{6})\.msv")


def keep(items: Iterable[Item], folder: Path) -> Iterator[Item]:
    """The same items; each volume is in ``folder/run-NNN/volume-NNNNNN.msv`` before it goes on.

    Nothing is written over: where the folder has runs, counting goes on from the last, for a stream that is started
    anew begins with run 1. A disk that is full ends the recording, which is told, and nothing else.
    """
    recording = True
    before = max((int(match[1]) for found in _files(folder) if (match := _RUN.fullmatch(found.name))), default=0)
    for item in items:
        if recording and isinstance(item, Volume):
            try:
                guarded(partial(_write, folder / f"run-{before + item.run:03d}", item))
            except MindsightError as error:
                recording = False
                yield TransportWarning("recording.failed", f"recording has ended, the run goes on: {error}", lost=True)
        yield item


def open_recorded(
    path: Path, run: int = 1, *, events: EventsTable | None = None, on_bad: OnBad = strictly, echo: EchoChoice = None
) -> RecordedRun:
    """A run's folder as ``keep`` wrote it (``run-NNN``), or whatever ``open_run`` reads. Parameters as there."""
    files = {int(match[1]): found for found in _files(path) if (match := _NAME.fullmatch(found.name))}
    if not files:
        return open_run(path, run, events=events, on_bad=on_bad, echo=echo)

    def read(index: int) -> Volume:
        volume = decode_volume(read_bytes(files[index]))
        if volume.index != index:
            raise BadVolume(f"volume {index}: the file holds volume {volume.index}", code="recording.mixed")
        return replace(volume, run=run)

    def volumes(on_bad: OnBad) -> Iterator[Volume]:
        for index in sorted(files):
            try:
                volume = read(index)
            except BadVolume as error:
                on_bad(BadVolume(f"volume {index}: {error}", code=error.code, index=index))
            else:
                yield volume

    met: list[BadVolume] = []
    first = next(volumes(strictly if on_bad is strictly else met.append), None)
    if first is None:
        raise met[0]
    series = Series(max(files) + 1, first.shape, first.tr_s, (), volumes, on_bad)
    return accompanied(path, run, series, events)


def _files(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


def _write(folder: Path, volume: Volume) -> None:
    write_whole(folder / f"volume-{volume.index:06d}.msv", encode_volume(volume))  # a copy of what is being sent
