"""What an inference worker would load, loaded: whatever does not exist, match or fit is found before a session.

Knows nothing of how findings are shown. Everything stays loaded until the end, since the worker needs it at once.
"""

from __future__ import annotations

import time
from functools import cached_property

from mindsight.decoding import TrialDecoder
from mindsight.errors import ModelMismatch, NotFound
from mindsight.generators.base import Generator
from mindsight.settings import Settings
from mindsight.subjects.bundle.description import DESCRIPTION
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.device import Placement, choose
from workers.inference.worker import load_captioner, load_refiner, warm_generator


class InferenceCheck:
    """Each method returns what it found, and raises what the worker would raise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: list[object] = []

    @cached_property
    def _placement(self) -> Placement:
        return choose(self._settings.device)

    @cached_property
    def _generator(self) -> Generator:
        return warm_generator(self._settings, self._placement)

    def generator(self) -> str:
        """The generator draws one image with the engine that is set."""
        named = self._settings.generator_dir
        if named is not None and not named.exists():
            raise NotFound(
                f"expected a generator at MINDSIGHT_GENERATOR_DIR, got no folder {named.absolute()}: correct it, or"
                " unset it to use the one that ships",
                code="generator.folder",
            )
        source = "the demo's" if named is None else named.name
        return f"{source}, {self._generator.image_size} pixels, engine {self._settings.engine}: one image drawn"

    def captions(self) -> str:
        self._loaded.append(load_captioner(self._settings, self._placement))
        return "off" if self._settings.captions_dir is None else self._settings.captions_dir.name

    def refinement(self) -> str:
        self._loaded.append(load_refiner(self._settings, self._placement))
        return "off" if self._settings.refiner_dir is None else self._settings.refiner_dir.name

    def bundles(self) -> str:
        """Every bundle of the data folder can decode. That none of its results is drawn is a fault only where a
        generator was named for them: bundles for labels, and the demo's generator, are not made for each other.
        """
        found = []
        for folder in sorted(path.parent for path in self._settings.bundles_dir.glob(f"*/{DESCRIPTION}")):
            bundle = Bundle.load(folder)
            with self._placement.memory_reported():
                decoder = TrialDecoder(
                    bundle, clock=time.perf_counter, generator=self._generator, placement=self._placement
                )
            self._loaded.append(decoder)
            if decoder.mismatch is not None and self._settings.generator_dir is not None:
                raise ModelMismatch(f"nothing can be drawn with {folder.name}: {decoder.mismatch}")
            lacks = [lack for lack in (decoder.off_card, decoder.mismatch and "candidates only") if lack]
            found.append(folder.name + (f" ({'; '.join(lacks)})" if lacks else ""))
        return ", ".join(found) or "none in the data folder"
