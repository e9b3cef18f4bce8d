"""Volumes, masks and betas as a page shows them: small, eight or sixteen bits, as NIfTI.

Knows nothing of HTTP or of sessions. It imports numpy: the gateway imports it in the thread that makes the first view.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindsight.blobs import Blobs
from mindsight.errors import NotFound
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from mindsight.volume_header import MAGIC
from service.nifti import nifti_bytes

MAX_VIEW_VOXELS = 600_000
MAX_PERCENT = 50.0  # of a beta: a voxel at the edge of the head has hardly any signal to be relative to
_BRIGHT = 99.8  # percentile that is white: some vessels are brighter than all else


def volume_of(blobs: Blobs, digest: str) -> bytes:
    """``volume_view`` of what is stored. Raises NotFound (``view.unknown``)."""
    return volume_view(_stored(blobs, digest))


def outline_of(blobs: Blobs, digest: str) -> bytes:
    """``outline_view`` of what is stored. Raises NotFound (``view.unknown``)."""
    return outline_view(_stored(blobs, digest))


def beta_of(blobs: Blobs, beta: str, mask: str, reference: str) -> bytes:
    """``beta_view`` of what is stored. Raises NotFound (``view.unknown``)."""
    beta_V = np.frombuffer(blobs.get(beta), "<f4")
    return beta_view(beta_V, _stored(blobs, mask), _stored(blobs, reference))


def volume_view(volume: Volume) -> bytes:
    """At most ``MAX_VIEW_VOXELS``, with 256 grey levels from 0 to the brightest tissue."""
    data_XYZ = np.nan_to_num(volume.data.astype(np.float32), posinf=0.0, neginf=0.0)
    data_XYZ, affine = _down_sampled(data_XYZ, volume.affine)
    white = float(np.percentile(data_XYZ, _BRIGHT)) or 1.0
    levels = np.clip(np.rint(data_XYZ * (255.0 / white)), 0, 255).astype(np.uint8)
    return nifti_bytes(levels, affine, white / 255.0, "volume")


def outline_view(mask: Volume) -> bytes:
    """The voxels of a mask that have a neighbour outside it. Raises NotFound for anything but a mask."""
    if mask.data.dtype != np.uint8 or mask.data.max(initial=0) > 1:
        raise NotFound("there is no such mask", code="view.unknown")
    inside = np.pad(mask.data != 0, 1)
    deep = inside.copy()
    for axis in range(3):
        for step in (1, -1):
            deep &= np.roll(inside, step, axis)
    edge = (inside & ~deep)[1:-1, 1:-1, 1:-1]
    return nifti_bytes(edge.astype(np.uint8), mask.affine, 1.0, "outline")


def beta_view(beta_V: NDArray[np.float32], mask: Volume, reference: Volume) -> bytes:
    """A beta as percent of the reference's signal, on the reference's grid; 0 outside the mask.

    beta_V : (V,) in C order of the mask's voxels. Raises NotFound if the two do not fit.
    """
    inside = mask.data != 0
    if beta_V.size != int(inside.sum()):
        raise NotFound("the beta is of other voxels than the session's mask", code="view.unknown")
    level_V = reference.data[inside].astype(np.float32)
    with np.errstate(all="ignore"):
        percent_V = np.nan_to_num(100.0 * beta_V / level_V, nan=0.0, posinf=0.0, neginf=0.0)
    hundredths = np.zeros(inside.shape, np.int16)
    hundredths[inside] = np.rint(100.0 * np.clip(percent_V, -MAX_PERCENT, MAX_PERCENT)).astype(np.int16)
    return nifti_bytes(hundredths, mask.affine, 0.01, "percent")


def _stored(blobs: Blobs, digest: str) -> Volume:
    payload = blobs.get(digest)
    if payload[:4] != MAGIC:
        raise NotFound("there is no such volume", code="view.unknown")
    return decode_volume(payload)


def _down_sampled(
    data_XYZ: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Means of blocks, halving the longest side until it is small enough."""
    while data_XYZ.size > MAX_VIEW_VOXELS:
        axis = int(np.argmax(data_XYZ.shape))
        pairs = np.take(data_XYZ, np.arange(data_XYZ.shape[axis] // 2 * 2), axis)
        shape = (*pairs.shape[:axis], pairs.shape[axis] // 2, 2, *pairs.shape[axis + 1 :])
        data_XYZ = pairs.reshape(shape).mean(axis=axis + 1)
        wider = np.eye(4)
        wider[axis, axis], wider[axis, 3] = 2.0, 0.5
        affine = affine @ wider
    return data_XYZ, affine
