"""The kinds of encoders, each imported when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mindsight.encoders.base import Encoder
from mindsight.errors import BadRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderOptions:
    """What to load; an encoder refuses options that it does not have.

    weights : folder or file; None: the demo's encoder that ships with Mindsight
    model : open_clip's configuration, by name or as a JSON file; empty: ViT-bigG-14
    embedding : ``tokens`` or ``pooled``
    values : ``mindeye2`` or ``clip``, what pixels are taken for; empty: the first for tokens, the second for pooled
    device : where torch runs it
    """

    weights: Path | None = None
    model: str = ""
    embedding: str = "tokens"
    values: str = ""
    device: str = "cpu"


def _demo(options: EncoderOptions) -> Encoder:
    from mindsight import assets
    from mindsight.encoders.demo import DemoEncoder

    if options.model or options.values or options.embedding != "tokens":
        raise BadRequest(
            "expected --weights with --model, --values or --embedding pooled: the encoder that ships with Mindsight"
            " has none of these",
            code="pool.options",
        )
    return DemoEncoder.load(options.weights or assets.ENCODER)


def _openclip(options: EncoderOptions) -> Encoder:
    from mindsight.encoders.openclip import OpenClipEncoder

    if options.weights is None:
        raise BadRequest("expected --weights: OpenCLIP's do not ship with Mindsight", code="pool.options")
    return OpenClipEncoder.load(
        options.weights, options.model or "ViT-bigG-14", options.embedding, options.values, options.device
    )


KINDS: dict[str, Callable[[EncoderOptions], Encoder]] = {"demo": _demo, "openclip": _openclip}


def load_encoder(kind: str, options: EncoderOptions) -> Encoder:
    """Raises BadRequest (``encoder.kind``, ``pool.options``), and what loading the kind raises."""
    if kind not in KINDS:
        raise BadRequest(f"expected an encoder, one of {', '.join(KINDS)}, got {kind!r}", code="encoder.kind")
    return KINDS[kind](options)
