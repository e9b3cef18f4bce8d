"""Which test images a figure was measured on.

982 and 1,000 are different test sets of the Natural Scenes Dataset: the images that all subjects had seen three times
when 37 sessions were released, and all shared images after 40. Figures on one are not compared with figures on the
other.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.errors import BadRequest


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A named set of test images; ``n`` is their number, None for a set that is not published."""

    name: str
    n: int | None
    title: str


NSD_1000 = ImageSet("nsd1000", 1000, "NSD shared1000, 40 sessions (MindEye2)")
NSD_982 = ImageSet("nsd982", 982, "NSD shared with three repeats in 37 sessions (MindEye1, Brain-Diffuser)")
_KNOWN = {known.name: known for known in (NSD_1000, NSD_982)}


def image_set(name: str, n_images: int) -> ImageSet:
    """The published set of this name, or a new one.

    Raises BadRequest (``images.count``) if the number of images is not that of the published set.
    """
    known = _KNOWN.get(name, ImageSet(name, None, name))
    if known.n not in (None, n_images):
        raise BadRequest(
            f"expected the {known.n} images of {name}, got {n_images}. Give the set its own name in the manifest: 982"
            " and 1,000 images are different test sets",
            code="images.count",
        )
    return known
