"""A run that was recorded: its volumes, its events, the motion that somebody estimated.

Knows nothing of pace or of where the volumes go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest, BadVolume
from mindsight.events import RunEvent, parse_events_tsv
from mindsight.scanner.files import OnBad, strictly
from mindsight.scanner.series import Series, open_series
from mindsight.volume import Volume

MotionOrder = Literal["translations", "rotations"]
_MOTION_FILES: tuple[tuple[str, MotionOrder | None], ...] = (
    ("motion.txt", None),
    ("*_mcf.par", "rotations"),
    ("rp_*.txt", "translations"),
)
_BOLD = re.compile(r"bold\.nii(\.gz)?$")


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
    """

    run: int
    series: Series
    events: list[RunEvent]
    motion_T6: NDArray[np.float64] | None
    motion_order: MotionOrder | None = None

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
        """From the first on, each time it is called; one volume in memory at a time; what is bad, ``on_bad`` gets."""
        return iter(self.series)


def open_run(path: Path | str, run: int = 1, *, tr_s: float | None = None, on_bad: OnBad = strictly) -> RecordedRun:
    """The run in a folder: ``bold.nii.gz`` or ``bold.nii``, or DICOM in ``dcm/`` or beside; ``events.tsv`` and motion
    parameters (see ``RecordedRun``) where there are any. Or a run of a BIDS dataset, as Mindsight's archives hold them:
    its ``..._bold.nii.gz``, with ``..._bold.json`` and ``..._events.tsv`` beside it.

    tr_s : overrides the repetition time of the files
    on_bad : what is done with a file that cannot be read, see ``open_series``

    Raises BadVolume for volumes that cannot be read, BadRequest for events or motion that do not fit them.
    """
    path = Path(path)
    if not path.exists():
        raise BadVolume("expected the folder or file of a run, got none; check the path", code="series.unreadable")
    series = open_series(_volumes_at(path), run, tr_s=tr_s, on_bad=on_bad)
    beside = path / "events.tsv" if path.is_dir() else path.with_name(_BOLD.sub("events.tsv", path.name))
    events = read_events(beside) if beside != path and beside.exists() else []
    for pattern, order in _MOTION_FILES:
        for file in sorted(path.glob(pattern))[:1] if path.is_dir() else []:
            return RecordedRun(run, series, events, _motion(file, series.n_volumes), order)
    return RecordedRun(run, series, events, None)


def _volumes_at(path: Path) -> Path:
    for name in ("bold.nii.gz", "bold.nii", "dcm"):
        if (path / name).exists():
            return path / name
    return path


def read_events(path: Path) -> list[RunEvent]:
    """A run's ``events.tsv``. Raises BadRequest."""
    return parse_events_tsv(_text(path, "events"))


def _text(path: Path, what: str) -> str:
    """What the file holds; errors do not name it, as names may be a person's."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadRequest(f"expected the run's {what} to be readable text in UTF-8", code="run.unreadable") from None


def _motion(path: Path, n_volumes: int) -> NDArray[np.float64]:
    rows = [line.split() for line in _text(path, "motion parameters").splitlines() if line.strip()]
    if len(rows) != n_volumes or any(len(row) != 6 for row in rows):
        widths = sorted({len(row) for row in rows})
        raise BadRequest(
            f"expected as motion parameters a row of 6 numbers for each of {n_volumes} volumes, not {len(rows)} of"
            f" {widths}",
            code="motion.shape",
        )
    try:
        motion_T6 = np.array(rows, dtype=np.float64)
    except ValueError:
        motion_T6 = np.full((n_volumes, 6), np.nan)
    if not np.isfinite(motion_T6).all():
        raise BadRequest("expected the motion parameters to be numbers only", code="motion.number")
    return motion_T6
