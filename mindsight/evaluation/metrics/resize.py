"""Bilinear resizing without antialias, as the published metrics do it, in plain NumPy.

Knows nothing of metrics or files. Letters: K images, H and W pixels, C channels.

The convention is torch's ``interpolate(mode="bilinear", align_corners=False, antialias=False)``, which is what
torchvision's ``Resize`` did to tensors before its default changed in 0.17: pixel centres at half-integers, two taps per
axis whatever the factor, edges repeated. Shrinking therefore aliases; the published numbers contain that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.moved import old_names

PROTOCOL_SIZE = 256
_CHUNK = 64


def as_unit_images(images_KHWC: NDArray[Any], size: int = PROTOCOL_SIZE) -> NDArray[np.float32]:
    """Images as the protocol compares them: float32 in [0, 1], (K, size, size, 3).

    Takes uint8, or floats that already are in [0, 1]. Raises BadRequest (``pictures.shape``, ``pictures.range``): the
    images are not square and in colour, or the floats are outside of [0, 1].
    """
    images_KHWC = np.asarray(images_KHWC)
    if images_KHWC.ndim != 4 or images_KHWC.shape[3] != 3 or images_KHWC.shape[1] != images_KHWC.shape[2]:
        raise BadRequest(
            f"expected square colour images (K, H, H, 3), got {images_KHWC.shape}: crop them first",
            code="pictures.shape",
        )
    images = np.empty((len(images_KHWC), size, size, 3), np.float32)
    for start in range(0, len(images_KHWC), _CHUNK):
        chunk = images_KHWC[start : start + _CHUNK]
        if chunk.dtype == np.uint8:
            chunk = chunk.astype(np.float32) / np.float32(255.0)
        elif not (np.all(chunk >= 0.0) and np.all(chunk <= 1.0)):
            raise BadRequest(
                f"expected uint8 images or floats in [0, 1], got {chunk.dtype} between {chunk.min():g} and "
                f"{chunk.max():g}",
                code="pictures.range",
            )
        images[start : start + _CHUNK] = resize(chunk.astype(np.float32, copy=False), size)
    return images


def resize(images_KHWC: NDArray[np.floating[Any]], size: int) -> NDArray[Any]:
    """(K, size, size, C) of (K, H, W, C), in the given dtype; the same array if nothing changes."""
    rows = _along(images_KHWC, 1, size)
    return _along(rows, 2, size)


def _along(values: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    n = values.shape[axis]
    if n == size:
        return values
    # in the images' own precision, as torch does it: in float32 the positions are off by some 1e-5 of a pixel
    kind = values.dtype.type
    positions = np.maximum((np.arange(size, dtype=kind) + kind(0.5)) * (kind(n) / kind(size)) - kind(0.5), kind(0.0))
    low = np.minimum(positions.astype(np.int64), n - 1)
    shape = [1] * values.ndim
    shape[axis] = size
    weight = (positions - low.astype(kind)).reshape(shape)
    first = np.take(values, low, axis)
    resized: NDArray[Any] = np.take(values, np.minimum(low + 1, n - 1), axis)
    resized -= first  # in place: fresh memory costs several times the sums themselves
    resized *= weight
    resized += first
    return resized


if not TYPE_CHECKING:  # which would take any name for one of this module
    __getattr__ = old_names(__name__)
