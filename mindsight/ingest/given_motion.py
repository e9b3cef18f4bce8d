"""Motion parameters that come with a run, from another program, instead of estimated ones.

Knows nothing of images. T volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.errors import BadRequest, BadVolume
from mindsight.volume import Volume

MotionOrder = Literal["translations", "rotations"]


@dataclass(frozen=True, eq=False)
class GivenMotion:
    """A run's motion parameters, raw.

    rows_T6 : all of them; None if they do not come with the run
    per_volume : each volume brings its own (``Volume.motion_6``)
    order : which three come first, in mm and radians; None: unknown, so there is no framewise displacement
    """

    rows_T6: NDArray[np.float64] | None = None
    order: MotionOrder | None = None
    per_volume: bool = False

    @classmethod
    def of_run(
        cls, motion_T6: ArrayLike | None, n_volumes: int | None, order: MotionOrder | None, per_volume: bool
    ) -> GivenMotion:
        """As ``IngestSession.start_run`` is given it. Raises BadRequest (``motion.shape``)."""
        rows = None if motion_T6 is None else np.array(motion_T6, dtype=np.float64)
        if rows is not None and (rows.ndim != 2 or rows.shape[1] != 6 or len(rows) < (n_volumes or 0)):
            raise BadRequest(
                f"expected six motion parameters for each of {n_volumes or 'T'} volumes, got shape {rows.shape}",
                code="motion.shape",
            )
        return cls(rows, order, per_volume)

    def __bool__(self) -> bool:
        """Whether the run has motion parameters of its own."""
        return self.rows_T6 is not None or self.per_volume

    def check_index(self, index: int) -> None:
        """Raises BadRequest (``motion.shape``) if the parameters end before this volume."""
        if self.rows_T6 is not None and index >= len(self.rows_T6):
            raise BadRequest(
                f"expected motion parameters for every volume, got {len(self.rows_T6)} rows and volume {index}",
                code="motion.shape",
            )

    def check(self, volume: Volume) -> None:
        """Raises BadVolume (``volume.motion``) if a volume lacks the parameters it should bring."""
        if self.per_volume and volume.motion_6 is None:
            raise BadVolume(
                "expected six motion parameters with each volume of the run, got none", code="volume.motion"
            )

    def raw_6(self, volume: Volume) -> NDArray[np.float64]:
        """(6,) the volume's parameters as they came; zeros if there are none."""
        if self.rows_T6 is not None:
            row_6: NDArray[np.float64] = self.rows_T6[volume.index]
            return row_6
        return np.array(volume.motion_6) if self.per_volume else np.zeros(6)

    def ordered_6(self, volume: Volume) -> NDArray[np.float64]:
        """(6,) translations in mm, then rotations in radians; zeros if the order is unknown."""
        if self.order is None:
            return np.zeros(6)
        raw_6 = self.raw_6(volume)
        return np.roll(raw_6, 3) if self.order == "rotations" else raw_6
