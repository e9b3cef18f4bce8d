"""Images that are nearly the same, by a small picture of each.

Knows nothing of trials or encoders. The measure is the cosine of thumbnails, 16 × 16 in colour, each about its own
mean. It finds what a person calls the same picture: saved again, resized, a little brighter or cropped by a few pixels.
Features of an encoder would also join different pictures of one kind, which are the hard distractors that a test needs;
their threshold would differ for each encoder; and those of the published size are 850 kB an image, a thumbnail is 3 kB.

Letters: M images, F numbers of a thumbnail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.encoders.sources import ImageSource, as_uint8, resized
from mindsight.errors import BadRequest
from mindsight.evaluation.splits import near_duplicates

SIDE_PX = 16
COSINE = 0.98
MEASURE = f"cosine of {SIDE_PX} x {SIDE_PX} colour thumbnails about their mean"


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What of each image decides whether two are the same.

    ids : M names
    thumbnails_MF : uint8
    digests : sha256 of each image's pixels
    """

    ids: tuple[str, ...]
    thumbnails_MF: NDArray[np.uint8]
    digests: tuple[str, ...]

    def clusters(self, cosine: float = COSINE) -> NDArray[np.int64]:
        """(M,) cluster of each image: pairs of at least this cosine, chains of such pairs, and equal pixels."""
        small_MF = self.thumbnails_MF.astype(np.float32)
        small_MF -= small_MF.mean(axis=1, keepdims=True)
        clusters_M = near_duplicates(small_MF, cosine)
        # images of one colour have no direction: these are joined by their digest alone
        first: dict[str, int] = {}
        for i, digest in enumerate(self.digests):
            same = first.setdefault(digest, i)
            if clusters_M[i] != clusters_M[same]:
                clusters_M[clusters_M == clusters_M[i]] = clusters_M[same]
        return clusters_M


def fingerprints(source: ImageSource, ids: Sequence[str]) -> Fingerprints:
    """Read every one of these images once.

    Raises BadRequest: ``dataset.images`` if images are missing, ``pictures.unreadable`` if one cannot be read.
    """
    at = {name: row for row, name in enumerate(source.ids)}
    if lacking := [name for name in ids if name not in at]:
        raise BadRequest(
            f"expected every image that was shown, got none for {len(lacking)} of {len(ids)}, the first {lacking[0]}:"
            " complete the images, or leave out the trials that showed these",
            code="dataset.images",
        )
    small, digests = [], []
    for name in ids:
        image_HW3 = as_uint8(source.read(at[name]))
        digests.append(hashlib.sha256(np.ascontiguousarray(image_HW3).data).hexdigest())
        small.append(resized(image_HW3, SIDE_PX).reshape(-1))
    return Fingerprints(tuple(ids), np.stack(small), tuple(digests))
