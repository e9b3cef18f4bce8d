"""A subject's space: the reference volume, the mask, and what is known of each voxel.

Knows nothing of sessions. V voxels of the mask, in C order of the reference's grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.volume import Volume


@dataclass(frozen=True, eq=False)
class SubjectSpace:
    """Where the subject's voxels are, and what calibration determined of each.

    reference : the volume to which others are aligned
    mask_XYZ : (X, Y, Z) bool, the V voxels in it
    hrf_V : (V,) index in ``glm.hrf.LIBRARY`` of each voxel's response; None: all as ``IngestOptions.hrf``
    lag_V : (V,) seconds at which each voxel is measured, from the middle of the volume; None: ignored
    noise_pool_V : (V,) bool, voxels without a response to events; None: not determined

    Raises BadRequest (``space.mask``, ``space.voxels``) if the parts do not fit the reference.
    """

    reference: Volume
    mask_XYZ: NDArray[np.bool_]
    hrf_V: NDArray[np.uint8] | None = None
    lag_V: NDArray[np.float32] | None = None
    noise_pool_V: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.mask_XYZ.shape != self.reference.shape or not self.mask_XYZ.any():
            raise BadRequest(
                f"expected a mask with voxels in it on the reference's grid {self.reference.shape}, got"
                f" {self.mask_XYZ.shape} with {int(self.mask_XYZ.sum())}",
                code="space.mask",
            )
        for name, of_voxels in (("responses", self.hrf_V), ("lags", self.lag_V), ("noise pool", self.noise_pool_V)):
            if of_voxels is not None and of_voxels.shape != (self.n_voxels,):
                raise BadRequest(
                    f"expected {name} for {self.n_voxels} voxels, got shape {of_voxels.shape}", code="space.voxels"
                )

    @property
    def n_voxels(self) -> int:
        return int(self.mask_XYZ.sum())
