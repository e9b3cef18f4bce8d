"""The part of a subject bundle that decodes: the decoder's weights, and how a reconstruction is sampled.

Weights are read here; ``DecoderWeights.decoder`` makes what decodes of them, in the process that decodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mindsight.decoders.base import DecoderWeights, PriorOptions
from mindsight.decoders.registry import load_weights
from mindsight.generators.base import SampleOptions
from mindsight.subjects.bundle.description import BundleDescription, invalid_description


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a reconstruction is sampled; the defaults are those of bundles that do not record it."""

    prior: PriorOptions = field(default_factory=PriorOptions)
    generator: SampleOptions = field(default_factory=SampleOptions)


_SAMPLING = TypeAdapter(Sampling)


def read_decoder(folder: Path, described: BundleDescription) -> tuple[DecoderWeights, Sampling]:
    """From verified files. Raises ModelMismatch (``bundle.unreadable``, ``decoder.kind``, ``model.file``)."""
    try:
        sampling = Sampling() if described.sampling is None else _SAMPLING.validate_python(described.sampling)
    except ValidationError as error:
        raise invalid_description(error) from None
    return load_weights(described.kind, folder), sampling
