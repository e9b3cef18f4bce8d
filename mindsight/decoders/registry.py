"""The kinds of decoders that a bundle may hold. Each is imported when a bundle of its kind is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mindsight.decoders.base import DecoderWeights
from mindsight.errors import ModelMismatch


def _linear(folder: Path) -> DecoderWeights:
    from mindsight.decoders.linear.decoder import LinearDecoder

    return LinearDecoder.load(folder)


def _mindeye2(folder: Path) -> DecoderWeights:
    from mindsight.decoders.mindeye2.decoder import MindEye2Weights

    return MindEye2Weights.load(folder)


def _pair(folder: Path) -> DecoderWeights:
    from mindsight.decoders.pair.decoder import PairWeights

    return PairWeights.load(folder, load_weights)


KINDS: dict[str, Callable[[Path], DecoderWeights]] = {"linear": _linear, "mindeye2": _mindeye2, "pair": _pair}


def load_weights(kind: str, folder: Path) -> DecoderWeights:
    """What a decoder of this kind saved into the folder. Raises ModelMismatch (``decoder.kind``, ``model.file``)."""
    if kind not in KINDS:
        raise ModelMismatch(
            f"expected a decoder of a kind that is known here, {', '.join(KINDS)}, got {kind!r}: update Mindsight",
            code="decoder.kind",
        )
    return KINDS[kind](folder)
