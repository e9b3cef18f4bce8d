"""A better reference: the mean of volumes aligned to one pose.

Knows nothing of which volumes these are: those of a calibration run, or a session's first.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mindsight.errors import BadVolume
from mindsight.preprocessing.motion.realign import Realigner
from mindsight.volume import Volume


def average_reference(volumes: Iterable[Volume], realigner: Realigner) -> Volume:
    """The mean (float32) of the volumes at the pose and on the grid of the realigner's reference.

    A volume without a trusted pose or with faulty slices is left out. Changes the realigner's state, as ``align``
    does.
    Raises BadVolume (``reference.none_usable``) if none is left.
    """
    reference = realigner.reference
    total_XYZ = np.zeros(reference.shape)
    n_used = n_given = 0
    for volume in volumes:
        n_given += 1
        aligned = realigner.align(volume)
        if aligned.converged and not aligned.outlier_slices:
            total_XYZ += aligned.volume.data
            n_used += 1
    if n_used == 0:
        raise BadVolume(
            f"expected volumes that can be aligned to the reference, got {n_given} of which none can: check that they "
            "are of the reference's session, or choose another reference",
            code="reference.none_usable",
            volumes=n_given,
        )
    mean_XYZ = (total_XYZ / n_used).astype(np.float32)
    return Volume(mean_XYZ, reference.affine, reference.tr_s, reference.run, reference.index)
