"""The kinds of generators that a folder of weights may hold, and the encoder of each one's tokens. A kind is imported
when a folder of it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mindsight.encoders.base import Encoder
from mindsight.errors import ModelMismatch
from mindsight.generators.base import Generator
from mindsight.weights.artefact import kind_of
from mindsight.weights.device import HOST, Placement


def _unclip_demo(folder: Path, placement: Placement) -> Generator:
    from mindsight.generators.unclip.demo import DemoGenerator

    return DemoGenerator.load(folder, placement)


def _unclip(folder: Path, placement: Placement) -> Generator:
    from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator

    return UnclipGenerator.load(folder, placement)


def _demo_encoder(folder: Path, _: Placement) -> Encoder:
    """Trained beside the generator, and so small that it stays on the host."""
    from mindsight.encoders.demo import DemoEncoder

    return DemoEncoder.load(folder.parent / "encoder")


def _tower(folder: Path, placement: Placement) -> Encoder:
    from mindsight.generators.unclip.sdxl.folder import read_tower

    return read_tower(folder, placement)


KINDS: dict[str, Callable[[Path, Placement], Generator]] = {"generator": _unclip_demo, "unclip": _unclip}
"""Kind in the folder's manifest -> loader."""

ENCODERS: dict[str, Callable[[Path, Placement], Encoder]] = {"generator": _demo_encoder, "unclip": _tower}
"""The same for the encoder."""


def load_generator(folder: Path, placement: Placement = HOST) -> Generator:
    """The generator of a folder, verified, on this device.

    Raises ModelMismatch (``generator.kind``, and ``model.unreadable`` or ``model.tampered`` for a damaged folder).
    """
    return KINDS[_known_kind(folder)](folder, placement)


def load_encoder_of(folder: Path, placement: Placement = HOST) -> Encoder:
    """The encoder of the tokens that a folder's generator draws, on this device.

    Raises ModelMismatch: what ``load_generator`` raises, and ``generator.encoder`` if the folder has none.
    """
    return ENCODERS[_known_kind(folder)](folder, placement)


def _known_kind(folder: Path) -> str:
    kind = kind_of(folder)
    if kind not in KINDS:
        raise ModelMismatch(
            f"expected a generator of a kind that is known here, {', '.join(KINDS)}, got {kind!r}: name the folder of a"
            " generator",
            code="generator.kind",
        )
    return kind
