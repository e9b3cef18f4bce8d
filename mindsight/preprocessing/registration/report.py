"""How a run was registered to the subject's space, in figures and in words for the operator.

Knows nothing of how the pose was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.quality.rules import Alert
from mindsight.preprocessing.registration.register import MIN_MARGIN, MIN_OVERLAP, Registration

How = Literal["subject", "session", "realigned", "registered", "refused"]
Against = Literal["calibration", "first_volume"]
_NAMES: dict[Against, str] = {"calibration": "the calibration", "first_volume": "the session's first volume"}

MIN_COVERAGE = 0.98
POOR_COVERAGE = 0.8


@dataclass(frozen=True, eq=False)
class RegistrationReport:
    """A run's pose in the subject's space, and whether it can be trusted.

    run, index : of the volume that determined it
    how : "subject": the volume fits the subject's reference, against which motion is estimated; "session": it fits the
        session's reference; "realigned", "registered": it becomes the session's reference, with a pose found by the
        realigner or by ``register``; "refused": the pose is a guess and must not be used
    rigid : (4, 4) mm of the subject's reference -> mm of the volume
    displacement_mm : distance of the head from its position in the subject's reference, in scanner coordinates:
        translation of its centre plus the arc of the rotation on a sphere of 50 mm (``rigid.displacement_mm``)
    coverage : share of the mask's voxels that lie within the volume
    unexplained : share of the volume's variance that its reference leaves unexplained, see ``Aligned``; None if the
        two look too different for this figure
    registration : result of ``register``; None if it was not needed
    recovered : the registration before this one was refused
    against : what the subject's reference is: the calibration's, or in a session without one its first volume
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
    against: Against = "calibration"

    @property
    def trusted(self) -> bool:
        return self.how != "refused"

    def describe(self) -> str:
        """One line for the operator."""
        verdict = (
            f"{self.displacement_mm:.1f} mm from {_NAMES[self.against]}, {self.coverage:.0%} of the voxels covered"
        )
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
        """What the operator must know, with what to do."""
        if self.registration is not None and not self.trusted:
            found = self.registration
            text = (
                f"The head cannot be registered to {_NAMES[self.against]}: no pose is clearly better than a wrong one"
                f" (margin {found.margin:.2f}, expected at least {MIN_MARGIN:.2f}; overlap {found.overlap:.2f},"
                f" expected at least {MIN_OVERLAP:.2f}). Check that subject and bundle are the right ones, that images"
                " are not flipped and that the slices cover the head as at calibration; then start a new run. Until"
                " then every trial is flagged."
            )
            return [Alert("place.refused", text, "error")]
        alerts = []
        if self.recovered:
            alerts.append(Alert("place.refused.over", f"The head is registered again: {self.describe()}.", "info"))
        if self.coverage < MIN_COVERAGE:
            voxels, before = "the decoder's voxels", "at calibration"
            if self.against == "first_volume":
                voxels, before = "the brain of the session's first volume", "in the session's first run"
            text = (
                f"The volumes show {self.coverage:.0%} of {voxels}. Position the slices as {before}"
                " and start a new run; until then voxels outside have their mean value, and results are less certain."
            )
            alerts.append(Alert("place.coverage", text, "error" if self.coverage < POOR_COVERAGE else "warning"))
        return alerts
