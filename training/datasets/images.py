"""Images in memory, and those of a candidate pool, as other sources are read (``encoders.sources.ImageSource``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindsight.errors import BadRequest
from mindsight.files.digest import sha256_of
from mindsight.retrieval import CandidatePool


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """(M, H, W, 3) uint8 images with their names."""

    ids: tuple[str, ...]
    images_MHW3: NDArray[np.uint8]

    @cached_property
    def stamp(self) -> str:
        return sha256_of(np.ascontiguousarray(self.images_MHW3).tobytes())

    def read(self, index: int) -> NDArray[Any]:
        image_HW3: NDArray[Any] = self.images_MHW3[index]
        return image_HW3


@dataclass(frozen=True, eq=False)
class PoolImages:
    """The images that a pool keeps of its candidates, each in its own size."""

    pool: CandidatePool

    @property
    def ids(self) -> tuple[str, ...]:
        files = self.pool.images or (None,) * len(self.pool)
        return tuple(name for name, file in zip(self.pool.ids, files, strict=True) if file is not None)

    @property
    def stamp(self) -> str:
        return self.pool.digest

    @cached_property
    def _files(self) -> list[Path]:
        return [file for file in self.pool.images or () if file is not None]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Raises BadRequest (``pictures.unreadable``)."""
        try:
            with Image.open(self._files[index]) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError) as error:  # SyntaxError: Pillow's of a broken PNG
            raise BadRequest(
                f"expected an image of {self.ids[index]} in the pool: it cannot be read ({type(error).__name__})",
                code="pictures.unreadable",
            ) from None


def joined_images(sources: Sequence[ArrayImages]) -> ArrayImages:
    """Images of several sources, whose names must differ or be of the same pixels.

    Raises BadRequest (``dataset.images``) for two images of one name or of different sizes.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    taken: dict[str, NDArray[np.uint8]] = {}
    for source in sources:
        for name, image_HW3 in zip(source.ids, source.images_MHW3, strict=True):
            if not np.array_equal(taken.setdefault(name, image_HW3), image_HW3):
                raise BadRequest(
                    f"expected one image of each name, got two of {name}: name them apart", code="dataset.images"
                )
    return ArrayImages(tuple(taken), np.stack(list(taken.values())))
