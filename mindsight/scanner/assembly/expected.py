"""Which of a scanner's series is the run. Knows nothing of how volumes arrive."""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.formats.image_type import MAGNITUDE, Kind
from mindsight.volume_bounds import same_tr


@dataclass(frozen=True, slots=True)
class Expected:
    """Which series is the run; None accepts any.

    shape : (X, Y, Z) voxels
    tr_s : repetition time in seconds, compared to a millisecond or a thousandth. It replaces the TR of files that
        state none. The clock of the volumes must agree with it if they have one (``timing.py``); the header need not
    n_volumes : volumes per run; the run ends with the last of them
    motion_corrected : take the scanner's own motion-corrected series and ignore the raw one
    echo : number of the echo to take, or all of them combined; the first by default
    """

    shape: tuple[int, int, int] | None = None
    tr_s: float | None = None
    n_volumes: int | None = None
    motion_corrected: bool = False
    echo: EchoChoice = None

    def why_not_kind(self, kind: Kind) -> str | None:
        """Why a series of this kind is not the run; None if it may be."""
        if kind.component not in (MAGNITUDE, "mixed"):
            return f"it holds {kind} images, not magnitude images"
        if kind.computed:
            return f"it holds {kind} images, not a run"
        if kind.corrected and not self.motion_corrected:
            return "the scanner corrected it for motion; set moco=1 to use it instead of the raw series"
        if self.motion_corrected and not kind.corrected:
            return "the scanner did not correct it for motion; remove moco=1 to use it"
        return None

    def why_not(self, shape: tuple[int, int, int], tr_s: float | None) -> str | None:
        """Why a series of such volumes is not the run; None if it may be. tr_s : None while it is unknown"""
        if self.shape is not None and shape != self.shape:
            return f"expected volumes of {_sides(self.shape)} voxels, got {_sides(shape)}"
        if self.tr_s is not None and tr_s is not None and not same_tr(tr_s, self.tr_s):
            return f"expected a TR of {self.tr_s:g} s, got {tr_s:g} s"
        return None


def _sides(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))
