"""A run that was recorded: its volumes, its events, the motion that somebody estimated.

Knows nothing of pace or of where the volumes go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.events import EventsTable, Note, RunEvent
from mindsight.scanner.beside import MotionOrder, find_events, find_motion
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.files import OnBad, strictly
from mindsight.scanner.series import Series, open_series
from mindsight.volume import Volume


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What a run's folder holds.

    run : number that its volumes carry, from 1
    events : as in ``events.tsv``, empty where there is none
    motion_T6 : six parameters per volume, in the file's own order and units, for use as confounds; None where there is
        no file
    motion_order : which three come first, with translations in mm and rotations in radians, told by whose file it is:
        "rotations" in FSL's (``*_mcf.par``), "translations" in SPM's (``rp_*.txt``); None of ``motion.txt``, since
        programs differ in both
    notes : what is to be said of the series, of events and motion: what was left out, not found or not used
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
        """From the first on, each time it is called, each with its motion where there is any; one volume in memory at a
        time; what is bad, ``on_bad`` gets."""
        for volume in self.series:
            if self.motion_T6 is None:
                yield volume
            else:
                yield replace(volume, motion_6=tuple(self.motion_T6[volume.index].tolist()))


def open_run(
    path: Path | str,
    run: int = 1,
    *,
    tr_s: float | None = None,
    events: EventsTable | None = None,
    on_bad: OnBad = strictly,
    echo: EchoChoice = None,
) -> RecordedRun:
    """The run in a folder: ``bold.nii.gz`` or ``bold.nii``, or DICOM in ``dcm/`` or beside; ``events.tsv`` and motion
    parameters (see ``RecordedRun``) where there are any. Or a run of a BIDS dataset, as Mindsight's archives hold them:
    its ``..._bold.nii.gz``, with ``..._bold.json`` beside it and its table of events where BIDS lets it lie.

    tr_s : overrides the repetition time of the files
    events : the run's, instead of what lies beside it
    on_bad : what is done with a file that cannot be read, see ``open_series``
    echo : which of several echoes, or all combined, see ``read_series``

    Raises BadVolume for volumes that cannot be read, BadRequest for motion that does not fit them. What
    is wrong with events is in ``RecordedRun.notes``.
    """
    path = Path(path)
    if not path.exists():
        raise BadVolume("expected the folder or file of a run, got none; check the path", code="series.unreadable")
    return accompanied(path, run, open_series(_volumes_at(path), run, tr_s=tr_s, on_bad=on_bad, echo=echo), events)


def accompanied(path: Path, run: int, series: Series, events: EventsTable | None) -> RecordedRun:
    """The series with what lies beside it. Parameters and errors as of ``open_run``."""
    table = find_events(path) if events is None else events
    motion = find_motion(path, series.n_volumes)
    of_series = (Note("series.note", note, "info") for note in series.notes)
    notes = (*of_series, *table.notes, *motion.notes)
    return RecordedRun(run, series, list(table.events), motion.motion_T6, motion.order, notes)


def _volumes_at(path: Path) -> Path:
    for name in ("bold.nii.gz", "bold.nii", "dcm"):
        if (path / name).exists():
            return path / name
    return path
