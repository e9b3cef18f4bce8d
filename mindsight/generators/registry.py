"""The kinds of generators that a folder of weights may hold. Each is imported when a folder of its kind is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


KINDS: dict[str, Callable[[Path, Placement], Generator]] = {"generator": _unclip_demo, "unclip": _unclip}
"""Kind in the folder's manifest -> loader."""


def load_generator(folder: Path, placement: Placement = HOST) -> Generator:
    """The generator of a folder, verified, on this device.

    Raises ModelMismatch (``generator.kind``, and ``model.unreadable`` or ``model.tampered`` for a damaged folder).
    """
    kind = kind_of(folder)
    if kind not in KINDS:
        raise ModelMismatch(
            f"expected a generator of a kind that is known here, {', '.join(KINDS)}, got {kind!r}: name the folder of a"
            " generator",
            code="generator.kind",
        )
    return KINDS[kind](folder, placement)
