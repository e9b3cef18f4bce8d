"""The part of a subject bundle that decodes: the decoder's weights, and how a reconstruction is sampled.

Weights are read here; ``DecoderWeights.decoder`` makes what decodes of them, in the process that decodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from mindsight.decoders.base import DecoderWeights, PriorOptions
from mindsight.decoders.registry import load_weights
from mindsight.generators.base import SampleOptions
from mindsight.subjects.bundle.description import BundleDescription, invalid_description


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a reconstruction is sampled; the defaults are those of bundles that do not record it.

    in_pool_prior : probability beforehand, 0 to 1 exclusive, that the image seen is a candidate. Where decoding errors
        are calibrated, a reconstruction then takes its tokens from the candidates, as far as these explain the decoded
        features (``posterior.hypotheses``); None: from the decoder alone
    """

    prior: PriorOptions = field(default_factory=PriorOptions)
    generator: SampleOptions = field(default_factory=SampleOptions)
    in_pool_prior: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None


_SAMPLING = TypeAdapter(Sampling)


def read_decoder(folder: Path, described: BundleDescription) -> tuple[DecoderWeights, Sampling]:
    """From verified files. Raises ModelMismatch (``bundle.unreadable``, ``decoder.kind``, ``model.file``)."""
    try:
        sampling = Sampling() if described.sampling is None else _SAMPLING.validate_python(described.sampling)
    except ValidationError as error:
        raise invalid_description(error) from None
    return load_weights(described.kind, folder), sampling
