"""A linear readout in two factors: for trials fewer than voxels and numbers to predict, the smaller form.

Knows nothing of how it was fitted. Letters: B trials, V voxels, R rank, H numbers that are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Readout:
    """``predicted_BH = (z_BV @ left_VR) @ right_RH + intercept_H``."""

    left_VR: NDArray[Any]
    right_RH: NDArray[np.float64]
    intercept_H: NDArray[np.float64]

    @property
    def weights_VH(self) -> NDArray[Any]:
        """(V, H) the product, as precise as the left factor."""
        return np.asarray(self.left_VR @ self.right_RH.astype(self.left_VR.dtype))

    def among(self, own_V: NDArray[np.bool_]) -> Readout:
        """The same readout of more voxels, of which it reads those of ``own_V``, one true for each of its own."""
        left_VR = np.zeros((len(own_V), self.left_VR.shape[1]), self.left_VR.dtype)
        left_VR[own_V] = self.left_VR
        return Readout(left_VR, self.right_RH, self.intercept_H)

    def predict(self, z_BV: NDArray[Any]) -> NDArray[np.float32]:
        """(B, H) without the product of the factors."""
        along_BR = np.asarray(z_BV, self.left_VR.dtype) @ self.left_VR
        return np.asarray(along_BR @ self.right_RH + self.intercept_H, np.float32)
