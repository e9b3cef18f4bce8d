"""What a session has once its space is known: at its start, or with its first volume.

Knows nothing of runs or volumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.glm import Normaliser, Statistics
from mindsight.ingest.options import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.ingest.state import part
from mindsight.preprocessing.motion.realign import MIN_SLICES
from mindsight.preprocessing.registration.session_reference import SessionReference


@dataclass(frozen=True, eq=False)
class KnownSpace:
    """The subject's space, and what depends on it and on the volumes so far.

    space : reference and mask
    reference : registers volumes to the space; None if its reference has too few slices for six parameters
    normaliser : the session's betas so far
    """

    space: SubjectSpace
    reference: SessionReference | None
    normaliser: Normaliser

    @classmethod
    def of(
        cls,
        space: SubjectSpace,
        options: IngestOptions,
        statistics: Statistics | None,
        motion_device: str | None,
        *,
        calibrated: bool,
    ) -> KnownSpace:
        """For a session that begins in this space. ``calibrated``: not found with its first volume."""
        # x fastest in memory: the realigner sums in that order, which reading from a file may change. When the volume
        # came says nothing of the space: a session that is resumed publishes the same one.
        volume = replace(
            space.reference,
            data=np.asfortranarray(space.reference.data),
            acquired_s=None,
            arrived_s=None,
            trigger_s=None,
            motion_6=None,
        )
        space = replace(space, reference=volume)
        reference = None
        if min(volume.shape) >= MIN_SLICES:
            reference = SessionReference(
                volume,
                space.mask_XYZ,
                against="calibration" if calibrated else "first_volume",
                fast=options.fast_motion,
                device=motion_device,
            )
        normaliser = Normaliser(
            space.n_voxels,
            options.normalise,
            statistics,
            min_betas=options.min_betas,
            prior_betas=options.prior_betas,
            std_floor=options.std_floor,
        )
        return cls(space, reference, normaliser)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
        arrays = {f"normaliser.{name}": array for name, array in self.normaliser.state().items()}
        if self.reference is not None:
            arrays |= {f"reference.{name}": array for name, array in self.reference.state().items()}
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state()`` of the same space, with the same bits."""
        self.normaliser.load_state(part(state, "normaliser."))
        if self.reference is not None:
            self.reference.load_state(part(state, "reference."))
