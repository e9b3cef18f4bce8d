"""A run's folder: written by ``keep`` while a transport delivers, read by ``open_run``, which reads exports too.

Knows nothing of pace, of transports or of where the volumes go. Kept files are payloads of ``volume_codec`` with all
clocks, so a replayed volume is bit for bit the one that arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume, MindsightError
from mindsight.events import EventsTable, Note, RunEvent
from mindsight.files.durable import write_whole
from mindsight.scanner.assembly.items import Item, TransportWarning
from mindsight.scanner.beside import MotionOrder, find_events, find_motion
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.formats.files import OnBad, read_bytes, strictly
from mindsight.scanner.guard import guarded
from mindsight.scanner.series import Series, open_series
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume, encode_volume

_RUN = re.compile(r"run-(\d{3,9})")
_NAME = re.compile(r"volume-(\d{6})\.msv")


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What a run's folder holds.

    run : number that its volumes carry, from 1
    events : as in ``events.tsv``, empty if there is none
    motion_T6 : six parameters per volume, in the file's own order and units, for use as confounds; None if there is
        no file
    motion_order : which three come first (translations in mm, rotations in radians), known from the file's writer:
        "rotations" in FSL's (``*_mcf.par``), "translations" in SPM's (``rp_*.txt``); None of ``motion.txt``, since
        programs differ in both
    notes : messages about series, events and motion: what was left out, not found or not used
    """

    run: int
    series: Series
    events: list[RunEvent]
    motion_T6: NDArray[np.float64] | None
    motion_order: MotionOrder | None = None
    notes: tuple[Note, ...] = ()

    @property
    def tr_s(self) -> float:
        return self.series.tr_s

    @property
    def n_volumes(self) -> int:
        """TRs from the first volume to the last."""
        return self.series.n_volumes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.series.shape

    def volumes(self) -> Iterator[Volume]:
        """All volumes from the first, each with its motion if there is any, one in memory at a time; unreadable ones go
        to ``on_bad``."""
        for volume in self.series:
            if self.motion_T6 is None:
                yield volume
            else:
                yield replace(volume, motion_6=tuple(self.motion_T6[volume.index].tolist()))


def keep(items: Iterable[Item], folder: Path) -> Iterator[Item]:
    """The same items; each volume is in ``folder/run-NNN/volume-NNNNNN.msv`` before it goes on.

    Nothing is overwritten: if the folder has runs, counting continues from the last, since a stream that is started
    again begins with run 1. A full disk ends the recording, with a warning, and nothing else.
    """
    recording = True
    before = max((int(match[1]) for found in _files(folder) if (match := _RUN.fullmatch(found.name))), default=0)
    for item in items:
        if recording and isinstance(item, Volume):
            try:
                guarded(partial(_write, folder / f"run-{before + item.run:03d}", item))
            except MindsightError as error:
                recording = False
                yield TransportWarning(
                    "recording.failed",
                    f"recording stopped, the stream continues: {error}; record to a folder with free space",
                    lost=True,
                )
        yield item


def open_run(
    path: Path | str,
    run: int = 1,
    *,
    tr_s: float | None = None,
    events: EventsTable | None = None,
    on_bad: OnBad = strictly,
    echo: EchoChoice = None,
) -> RecordedRun:
    """The run in a folder: as ``keep`` wrote it (``run-NNN``), or ``bold.nii.gz`` or ``bold.nii``, or DICOM in ``dcm/``
    or beside; ``events.tsv`` and motion parameters (see ``RecordedRun``) if there are any. Or a run of a BIDS
    dataset, as Mindsight's archives hold them: its ``..._bold.nii.gz``, with ``..._bold.json`` beside it and its table
    of events where BIDS lets it lie.

    tr_s : overrides the repetition time of the files
    events : the run's, instead of what lies beside it
    on_bad : what is done with a file that cannot be read, see ``open_series``
    echo : which of several echoes, or all combined, see ``read_series``; what was kept has no others

    Raises BadVolume for volumes that cannot be read, BadRequest for motion that does not fit them. What
    is wrong with events is in ``RecordedRun.notes``.
    """
    path = Path(path)
    if kept := _kept_files(path):
        series = _kept_series(kept, run, tr_s, on_bad)
    elif path.exists():
        series = open_series(_volumes_at(path), run, tr_s=tr_s, on_bad=on_bad, echo=echo)
    else:
        raise BadVolume("expected the folder or file of a run, got none; check the path", code="series.unreadable")
    table = find_events(path) if events is None else events
    motion = find_motion(path, series.n_volumes)
    of_series = (Note("series.note", note, "info") for note in series.notes)
    notes = (*of_series, *table.notes, *motion.notes)
    return RecordedRun(run, series, list(table.events), motion.motion_T6, motion.order, notes)


open_recorded = open_run  # the name up to 0.1, kept for one version


def _kept_files(path: Path) -> dict[int, Path]:
    try:
        return {int(match[1]): found for found in _files(path) if (match := _NAME.fullmatch(found.name))}
    except OSError:  # ``open_series`` reports it
        return {}


def _kept_series(files: Mapping[int, Path], run: int, tr_s: float | None, on_bad: OnBad) -> Series:
    def read(index: int) -> Volume:
        volume = decode_volume(read_bytes(files[index]))
        if volume.index != index:
            raise BadVolume(f"volume {index}: the file holds volume {volume.index}", code="recording.mixed")
        return replace(volume, run=run, tr_s=volume.tr_s if tr_s is None else tr_s)

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
    return Series(max(files) + 1, first.shape, first.tr_s, (), volumes, on_bad)


def _volumes_at(path: Path) -> Path:
    for name in ("bold.nii.gz", "bold.nii", "dcm"):
        if (path / name).exists():
            return path / name
    return path


def _files(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


def _write(folder: Path, volume: Volume) -> None:
    write_whole(folder / f"volume-{volume.index:06d}.msv", encode_volume(volume))  # a copy of what is being sent
