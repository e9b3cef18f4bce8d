"""What is known of a run's place in the subject's space, for a person and for programs.

Knows nothing of how it was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.quality.alerts import Alert
from mindsight.preprocessing.registration.register import MIN_MARGIN, MIN_OVERLAP, Registration

How = Literal["subject", "session", "realigned", "registered", "refused"]

MIN_COVERAGE = 0.98
POOR_COVERAGE = 0.8


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a run's head is in the subject's space, and whether to believe it.

    run, index : of the volume that says so
    how : "subject": it fits the subject's reference, motion is estimated against that; "session": it fits the
        session's; "realigned", "registered": it is the session's reference from here on, placed by either; "refused":
        its place is a guess that nothing must rest on
    rigid : (4, 4) mm of the subject's reference -> mm of the volume
    displacement_mm : how far the head is from where the subject's reference has it, in the scanner's coordinates: of
        its centre, and the arc of the rotation on a sphere of 50 mm (``rigid.displacement_mm``)
    coverage : share of the mask's voxels that the volume shows
    unexplained : share of the volume's variance that the reference it was aligned to leaves, see ``Aligned``; None
        where it looks too different for that
    registration : verdict and figures; None where there was no need
    recovered : what was placed before was refused
    """

    run: int
    index: int
    how: How
    rigid: NDArray[np.float64]
    displacement_mm: float
    coverage: float
    unexplained: float | None
    registration: Registration | None = None
    recovered: bool = False

    @property
    def trusted(self) -> bool:
        return self.how != "refused"

    def describe(self) -> str:
        """One line for a person."""
        verdict = f"{self.displacement_mm:.1f} mm from the calibration's place, {self.coverage:.0%} of the voxels shown"
        if self.unexplained is not None:
            verdict += f", {self.unexplained:.1%} unexplained"
        if self.registration is not None:
            found = self.registration
            verdict += (
                f", margin {found.margin:.2f} (at least {MIN_MARGIN:.2f}), overlap {found.overlap:.2f}"
                f" (at least {MIN_OVERLAP:.2f})"
            )
        return verdict

    def alerts(self) -> list[Alert]:
        """What a person must know, with what to do."""
        if self.registration is not None and not self.trusted:
            found = self.registration
            text = (
                "The head cannot be placed in the subject's space: no place is clearly better than a wrong one (margin"
                f" {found.margin:.2f}, expected at least {MIN_MARGIN:.2f}; overlap {found.overlap:.2f}, expected at"
                f" least {MIN_OVERLAP:.2f}). Check that subject and bundle are the right ones, that images are not"
                " flipped and that the slices cover the head as at calibration; then start a new run. Until then every"
                " trial is flagged."
            )
            return [Alert("place.refused", text, "error")]
        alerts = []
        if self.recovered:
            alerts.append(Alert("place.refused.over", f"The head is placed now: {self.describe()}.", "info"))
        if self.coverage < MIN_COVERAGE:
            text = (
                f"The volumes show {self.coverage:.0%} of the decoder's voxels. Place the slices as at calibration and"
                " start a new run; until then the other voxels count as usual, and answers are less certain."
            )
            alerts.append(Alert("place.coverage", text, "error" if self.coverage < POOR_COVERAGE else "warning"))
        return alerts
