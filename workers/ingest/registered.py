"""A run's registration to the subject's space as a message, with an image for the operator to check.

Knows nothing of how the pose was found.
"""

from __future__ import annotations

import time

from mindsight.blobs import Blobs
from mindsight.errors import BadVolume
from mindsight.files.images import png_bytes
from mindsight.preprocessing.figures.pose import draw_pose
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.protocol import RunPlaced
from mindsight.volume import Volume


def run_placed(session: str, report: RegistrationReport, volume: Volume, reference: Volume, blobs: Blobs) -> RunPlaced:
    """The message; its image is put into the blob store.

    volume : the volume that was registered
    reference : the subject's
    """
    found = report.registration
    return RunPlaced(
        session=session,
        t=time.time(),
        run=report.run,
        index=report.index,
        how=report.how,
        reference_to_run=tuple(report.rigid.ravel().tolist()),
        displacement_mm=report.displacement_mm,
        coverage=report.coverage,
        unexplained=report.unexplained,
        margin=None if found is None else found.margin,
        overlap=None if found is None else found.overlap,
        text=report.describe(),
        reference=report.against,
        image=_picture(report, volume, reference, blobs),
    )


def _picture(report: RegistrationReport, volume: Volume, reference: Volume, blobs: Blobs) -> str | None:
    """Digest of the image; None if the volume has no head to draw."""
    try:
        pixels = draw_pose(volume, reference, report.rigid, report.describe(), report.trusted)
    except BadVolume:
        return None
    return blobs.put(png_bytes(pixels, compress_level=1))
