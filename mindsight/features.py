"""What is decoded into: named spaces of image features, and arrays in them.

On the ground, because encoders fill a space, decoders predict in it, pools are searched in it and generators draw from
it, and none of these rooms knows the others. Letters: B images or trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mindsight.errors import ModelMismatch

Array = Any
"""float32 NumPy on the host; on a card a torch tensor, which stays there from room to room (``weights/device.py``).
The ground knows no torch, hence no more exact type: both have ``shape`` and ``mean(axis=0)``.
"""

Features = Mapping[str, Array]
"""Name of a feature space -> (B, *shape)."""


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """One space of image features. Two spaces are the same only if all of these are, never by shape alone.

    name : of the space, such as ``openclip-ViT-bigG-14-tokens``
    shape : of one image's features, (D,) or (tokens, channels)
    normalisation : what the encoder's output was divided by or shifted by, in words
    encoder : sha256 of the encoder's weights

    Pools made before spaces were recorded know their shape only: their other fields are empty.
    """

    name: str
    shape: tuple[int, ...]
    normalisation: str = ""
    encoder: str = ""

    def matches(self, other: FeatureSpace) -> bool:
        """Whether the two are the same space, as far as both are recorded."""
        both = (
            (self.name, other.name),
            (self.normalisation, other.normalisation),
            (self.encoder, other.encoder),
        )
        return self.shape == other.shape and all(mine == theirs or not (mine and theirs) for mine, theirs in both)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shape": list(self.shape),
            "normalisation": self.normalisation,
            "encoder": self.encoder,
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> FeatureSpace:
        """Raises KeyError, TypeError or ValueError for anything but what ``to_json`` gives."""
        texts = [held[name] for name in ("name", "normalisation", "encoder")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("expected texts")
        return cls(texts[0], tuple(int(n) for n in held["shape"]), *texts[1:])


LOWLEVEL = FeatureSpace("stable-diffusion-latents", (4, 28, 28), "multiplied by 0.18215")
"""Of an image of 224 pixels: what a decoder with a low-level head predicts, and a generator can start from."""


def match(given: Mapping[str, FeatureSpace], needed: Mapping[str, FeatureSpace]) -> dict[str, str]:
    """Needed name -> given name of the same space.

    Raises ModelMismatch (``features.space``) if a needed space is not given.
    """
    found: dict[str, str] = {}
    for name, wanted in needed.items():
        own = next((own for own, space in given.items() if space.matches(wanted)), None)
        if own is None:
            listed = ", ".join(f"{space.name or 'an unnamed space'} {space.shape}" for space in given.values())
            raise ModelMismatch(
                f"expected features in the space {wanted.name} {wanted.shape} of encoder {wanted.encoder[:12]}, got"
                f" {listed or 'none'}: choose a decoder and a generator made for the same encoder",
                code="features.space",
            )
        found[name] = own
    return found
