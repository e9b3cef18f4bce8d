"""How well a reconstruction fits the tokens that it was made from: its own tokens, encoded again, beside them.

It is a measure of the reconstruction, and not of the retrieval: tokens that no image has are drawn as something else,
however sure the ranking is. Knows nothing of sessions, queues or the wall clock.

Letters: B = 1 trial, N tokens of D channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.encoders.base import Encoder
from mindsight.encoders.sources import resized
from mindsight.features import match
from mindsight.generators.base import Generator
from mindsight.retrieval.origin import Origin
from mindsight.stages import Stage
from mindsight.subjects.bundle.fit import FitCalibration


class FitMeter:
    """Measures the fit of one generator's reconstructions.

    Raises ModelMismatch (``features.space``) if the encoder's tokens are none of the features that it draws.
    """

    def __init__(self, encoder: Encoder, generator: Generator) -> None:
        self.encoder_digest, self.generator_digest = encoder.space.encoder, generator.digest
        self._encoder = encoder
        self._tokens = match(generator.spaces, {"tokens": encoder.space})["tokens"]

    def decoded(self, features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(1, N, D) the tokens among the features that a reconstruction was made from."""
        return features[self._tokens]

    def encoded(self, pixels_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(1, N, D) a reconstruction's own tokens."""
        return self._encoder.encode(np.stack([resized(pixels_HW3, self._encoder.image_size)]))

    def percentile(self, cosine: float, stage: Stage, calibration: FitCalibration | None) -> float | None:
        """See ``FitCalibration``; None without one, and with one of another encoder or generator."""
        if calibration is None or (calibration.encoder, calibration.generator) != (
            self.encoder_digest,
            self.generator_digest,
        ):
            return None
        return calibration.percentile(cosine, stage)


def directions(tokens_BND: NDArray[Any], origin_D: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(B, N * D) tokens as vectors of length 1, all tokens of a trial as one as in the ranking; 0 without a length.

    origin_D : subtracted before, as it is from both sides of the bundle's ranking; None subtracts nothing
    """
    flat_BD = np.asarray(tokens_BND, np.float32).reshape(len(tokens_BND), -1)
    if origin_D is None:
        lengths_B1 = np.linalg.norm(flat_BD, axis=1, keepdims=True)
    else:
        origin = Origin.of(origin_D)
        flat_BD = flat_BD - origin.place_D
        lengths_B1 = origin.lengths(np.linalg.norm(flat_BD, axis=1, keepdims=True), np.float32)
    directions_BD = np.zeros_like(flat_BD)
    np.divide(flat_BD, lengths_B1, out=directions_BD, where=lengths_B1 > 0.0)
    return directions_BD


def token_cosine(
    encoded_1ND: NDArray[Any], decoded_1ND: NDArray[Any], origin_D: NDArray[np.float32] | None = None
) -> float:
    """Cosine between two sets of tokens, see ``directions``."""
    cosine = np.vdot(directions(encoded_1ND, origin_D), directions(decoded_1ND, origin_D))
    return float(np.clip(cosine, -1.0, 1.0))
