"""A run's declared repetition time compared with its volumes' clocks: the scanner's, and that of the trigger pulses.

Knows nothing of betas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.quality.rules import Alert
from mindsight.scanner.timing import pace_of
from mindsight.volume import Volume

MIN_VOLUMES = 5
MAX_VOLUMES = 32


class RunClocks:
    """The clocks of one run; raises one alert if a steady clock contradicts the declared TR."""

    def __init__(self) -> None:
        self._moments_N3 = np.empty((0, 3))  # index, acquired, trigger
        self._reported = False

    def push(self, volume: Volume, tr_s: float) -> list[Alert]:
        """Alerts after this volume."""
        if self._reported or (volume.acquired_s is None and volume.trigger_s is None):
            return []
        moments = [np.nan if s is None else s for s in (volume.acquired_s, volume.trigger_s)]
        self._moments_N3 = np.vstack([self._moments_N3, [volume.index, *moments]])[-MAX_VOLUMES:]
        for column, whose in ((1, "the scanner's clock"), (2, "the trigger pulses")):
            moments_N2 = self._moments_N3[:, [0, column]]
            moments_N2 = moments_N2[np.isfinite(moments_N2[:, 1])]
            if len(moments_N2) < MIN_VOLUMES:
                continue
            pace = pace_of({int(index): moment_s for index, moment_s in moments_N2.tolist()})
            if pace is not None and pace.steady and not pace.agrees(tr_s):
                self._reported = True
                text = (
                    f"The volumes are {pace.tr_s:g} s apart by {whose}, but the run was declared with a TR of"
                    f" {tr_s:g} s: events fall on the wrong volumes. End the run and declare the next one with the"
                    " right TR."
                )
                return [Alert("run.tr_mismatch", text, "error")]
        return []

    def state(self) -> dict[str, NDArray[Any]]:
        return {"moments_N3": self._moments_N3.copy(), "reported": np.array(self._reported)}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        self._moments_N3, self._reported = np.array(state["moments_N3"], np.float64), bool(state["reported"])
