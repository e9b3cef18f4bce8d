"""Images to make a candidate pool of: a folder of files, or an HDF5 file as NSD's and MindEye2's are.

Knows nothing of embeddings. Letters: N images, H, W pixels, C = 3 colours.
"""

from __future__ import annotations

import itertools
import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mindsight.errors import BadRequest
from mindsight.files.arrays import HDF5_DAMAGED
from mindsight.files.images import GIVEN_FORMATS
from mindsight.moved import old_names

MAX_PIXELS = 4096 * 4096
MAX_ROWS = 10_000_000  # of an HDF5 file, which may state any number
_SUFFIXES = {".png", ".jpg", ".jpeg"}
# what Pillow raises for a file that is not as it was written
_UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


class ImageSource(Protocol):
    """N images in a fixed order.

    ids : N names, all different
    stamp : changes with the images; a changed stamp restarts an interrupted build
    """

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def stamp(self) -> str: ...

    def read(self, index: int) -> NDArray[Any]:
        """(H, W, C) one square, upright, sRGB: uint8, or float32 in [0, 1]. Raises BadRequest
        (``pictures.unreadable``, ``pictures.too_large``).
        """


@dataclass(frozen=True)
class FolderImages:
    """The PNG and JPEG files under a folder, in the order of their names.

    size_px : side of the square that each becomes: the shorter side is resized to it, bicubic, the centre cropped
    """

    folder: Path
    size_px: int

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Raises BadRequest (``pictures.none``)."""
        found = sorted(
            (path for path in self.folder.rglob("*") if path.suffix.lower() in _SUFFIXES),
            key=lambda path: path.relative_to(self.folder).as_posix(),
        )
        if not found:
            raise BadRequest("expected a folder with PNG or JPEG files, got none", code="pictures.none")
        return tuple(found)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """N names: the path in the folder, without its suffix. Raises BadRequest (``pictures.name``)."""
        names = [path.relative_to(self.folder).with_suffix("").as_posix() for path in self.files]
        twice = [name for name, after in itertools.pairwise(sorted(names)) if name == after]
        if twice:
            raise BadRequest(
                f"expected images whose names differ before the suffix, got {twice[0]} twice", code="pictures.name"
            )
        return tuple(names)

    @cached_property
    def stamp(self) -> str:
        """Names, sizes and times of change of the files."""
        stats = [path.stat() for path in self.files]
        files = zip(self.files, stats, strict=True)
        return f"{self.size_px} px " + " ".join(
            f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in files
        )

    def read(self, index: int) -> NDArray[np.uint8]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of notes beside the pixels that are not as they should be
                with Image.open(self.files[index], formats=GIVEN_FORMATS) as image:
                    if image.width * image.height > MAX_PIXELS:
                        raise BadRequest(
                            f"expected an image of at most {MAX_PIXELS / 1e6:.1f} megapixels in"
                            f" {self.files[index].name}, got {image.width} x {image.height}: scale it down to what"
                            " the participant sees",
                            code="pictures.too_large",
                        )
                    upright = ImageOps.exif_transpose(image).convert("RGB")
        except _UNREADABLE as error:
            raise BadRequest(
                f"expected a PNG or JPEG image in {self.files[index].name}: it cannot be read ({type(error).__name__})",
                code="pictures.unreadable",
            ) from None
        return _square(upright, self.size_px)


class Hdf5Images:
    """The images of an HDF5 file: (N, 3, H, H) or (N, H, H, 3), uint8, or floats in [0, 1].

    Both ``coco_images_224_float16.hdf5`` (MindEye2) and ``nsd_stimuli.hdf5`` are such files. Images of the requested
    size are returned unchanged, floats as floats; others are resized like those of a folder, in 8 bits. An id is the
    row's number, from 0: in these files, NSD's number of the image among 73,000.

    size_px : side of the square that each becomes
    rows : which rows, None for all

    Raises BadRequest (``pictures.none``, ``pictures.rows``) if there is not one array of images, or a requested
    row is missing.
    """

    def __init__(self, path: Path, size_px: int, rows: NDArray[np.int64] | None = None) -> None:
        import h5py

        arrays: list[Any] = []
        try:
            self._file = h5py.File(path, "r")
            self._file.visititems(lambda _, item: arrays.append(item) if _is_image_array(item) else None)
        except HDF5_DAMAGED as error:
            raise BadRequest(f"expected an HDF5 file, got {path.name}: {error}", code="pictures.none") from None
        if len(arrays) != 1:
            raise BadRequest(
                f"expected one array (N, 3, H, H) or (N, H, H, 3) of images in {path.name}, got {len(arrays)}",
                code="pictures.none",
            )
        self._array = arrays[0]
        n = len(self._array)
        self._rows = np.arange(n) if rows is None else np.asarray(rows)
        if (
            self._rows.size == 0
            or self._rows.min() < 0
            or self._rows.max() >= n
            or np.unique(self._rows).size < self._rows.size
        ):
            raise BadRequest(f"expected different rows from 0 to {n - 1} of {path.name}", code="pictures.rows")
        self._size_px = size_px
        self.ids = tuple(f"{row:0{len(str(n - 1))}d}" for row in self._rows)
        stat = path.stat()
        self.stamp = f"{path.name} {stat.st_size} {stat.st_mtime_ns} {self._array.name} {size_px} px"

    def read(self, index: int) -> NDArray[Any]:
        try:
            image = np.asarray(self._array[self._rows[index]])
        except HDF5_DAMAGED as error:
            raise BadRequest(
                f"expected an image in row {self.ids[index]}: it cannot be read ({error})", code="pictures.unreadable"
            ) from None
        image_HWC = image if image.shape[-1] == 3 else np.moveaxis(image, 0, -1)
        if image_HWC.dtype != np.uint8:
            image_HWC = image_HWC.astype(np.float32)
            if not (image_HWC.min() >= 0.0 and image_HWC.max() <= 1.0):  # NaN is neither
                raise BadRequest(
                    f"expected floats in [0, 1] in row {self.ids[index]}, got {image_HWC.min():g} to"
                    f" {image_HWC.max():g}",
                    code="pictures.unreadable",
                )
        if len(image_HWC) == self._size_px:
            return np.ascontiguousarray(image_HWC)
        return resized(as_uint8(image_HWC), self._size_px)


def as_uint8(image_HWC: NDArray[Any]) -> NDArray[np.uint8]:
    """8 bits of an image, floats rounded to the nearest."""
    if image_HWC.dtype == np.uint8:
        return image_HWC
    return np.rint(image_HWC * 255.0).astype(np.uint8)


def resized(image_HWC: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """(size_px, size_px, C) an image as a folder's images are resized; unchanged if it has this size."""
    return _square(Image.fromarray(image_HWC), size_px)


def _square(image: Image.Image, size_px: int) -> NDArray[np.uint8]:
    return np.asarray(ImageOps.fit(image, (size_px, size_px), Image.Resampling.BICUBIC), dtype=np.uint8)


def _is_image_array(item: Any) -> bool:
    shape: tuple[int, ...] = getattr(item, "shape", None) or ()
    square = len(shape) == 4 and ((shape[1] == 3 and shape[2] == shape[3]) or (shape[3] == 3 and shape[1] == shape[2]))
    possible = square and shape[0] <= MAX_ROWS and math.prod(shape[1:]) <= 3 * MAX_PIXELS
    return possible and (item.dtype == np.uint8 or item.dtype.kind == "f")


if not TYPE_CHECKING:  # which would take any name for one of this module
    __getattr__ = old_names(__name__)
