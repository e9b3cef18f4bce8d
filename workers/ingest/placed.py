"""A run's place in the subject's space as a message and as a picture for a person to judge.

Knows nothing of how the place was found.
"""

from __future__ import annotations

import time

from mindsight.blobs import BlobStore
from mindsight.errors import BadVolume
from mindsight.files.images import png_bytes
from mindsight.ingest import Placement
from mindsight.preprocessing.figures.pose import draw_pose
from mindsight.protocol import RunPlaced
from mindsight.volume import Volume


def run_placed(session: str, placement: Placement, volume: Volume, reference: Volume, blobs: BlobStore) -> RunPlaced:
    """The message; the picture is in the blob store.

    volume : the one that was placed
    reference : the subject's
    """
    found = placement.registration
    return RunPlaced(
        session=session,
        t=time.time(),
        run=placement.run,
        index=placement.index,
        how=placement.how,
        reference_to_run=tuple(placement.rigid.ravel().tolist()),
        displacement_mm=placement.displacement_mm,
        coverage=placement.coverage,
        unexplained=placement.unexplained,
        margin=None if found is None else found.margin,
        overlap=None if found is None else found.overlap,
        text=placement.describe(),
        image=_picture(placement, volume, reference, blobs),
    )


def _picture(placement: Placement, volume: Volume, reference: Volume, blobs: BlobStore) -> str | None:
    """None where there is no head to draw."""
    try:
        pixels = draw_pose(volume, reference, placement.rigid, placement.describe(), placement.trusted)
    except BadVolume:
        return None
    return blobs.put(png_bytes(pixels, compress_level=1))
