"""Jobs of the queue of pictures: each gives a preview, the reconstruction, its fit and its caption, or the reason for
none.

Knows nothing of retrieval's queue or of threads. A picture that does not fit into the memory is drawn with less of it,
see ``memory``.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field

from mindsight.blobs import Blobs
from mindsight.bus import WorkQueue
from mindsight.captions import Captioner
from mindsight.decoding import Reconstructed, Retrieval
from mindsight.errors import MindsightError
from mindsight.files.images import png_bytes
from mindsight.generators.base import Generator
from mindsight.protocol import Reconstruction
from mindsight.protocol.work import BetaWork, RefinementWork, dump_refinement
from mindsight.weights.device import Placement
from workers.inference.bundles import LoadedBundle, LoadedBundles
from workers.inference.fits import Decoded, Fits
from workers.inference.memory import Level, Levels, text_of
from workers.inference.publish import SessionLogs
from workers.inference.reconstructions import caption_of, reconstruction_of, seed_of, skipped
from workers.inference.results import Betas, identity_of, read_betas

KEPT_RETRIEVALS = 64  # whose reconstruction is still to come; a bigG condition has 1.7 MB
_KINDS = {"preview": "preview", "full": "reconstruction", "refined": "refined"}  # version -> kind of message


@dataclass
class Drawing:
    """Draws one job at a time.

    refinements : where final images and their captions go to be refined; None: they are not
    """

    logs: SessionLogs
    blobs: Blobs
    bundles: LoadedBundles
    generator: Generator
    captioner: Captioner | None
    placement: Placement
    fits: Fits
    refinements: WorkQueue | None = None
    levels: Levels = field(default_factory=Levels)
    _next: tuple[LoadedBundle, int] | None = None
    _retrievals: OrderedDict[tuple[str, str], Retrieval] = field(default_factory=OrderedDict)

    def keep(self, work: BetaWork, retrieval: Retrieval) -> None:
        """Spare a later ``draw`` in this process the decoding."""
        self._retrievals[work.key, work.beta] = retrieval
        while len(self._retrievals) > KEPT_RETRIEVALS:
            self._retrievals.popitem(last=False)

    def draw(self, work: BetaWork) -> None:
        """Publish one beta's reconstruction, its preview before it, and then its fit, and its caption if there is a
        captioner.

        Raises MindsightError (``device.memory``) only where decoding or captioning has no memory.
        """
        loaded = self.bundles.get(work.bundle)
        betas = read_betas(work, loaded.bundle, self.blobs)
        retrieval = self._retrievals.pop((work.key, work.beta), None)
        if retrieval is None:  # another worker decoded the beta, or this one was restarted since
            retrieval = loaded.decoder.retrieve(*betas)
        drawn = self._drawn_in_memory(work, loaded, betas, retrieval)
        following = work.model_copy(update={"trial": work.trial + 1})
        self._next = (loaded, seed_of(following, loaded.bundle.digest))
        if drawn is None:
            self.logs.publish("skipped", work, skipped(work, "the device has no memory for it"), work.beta)
            return
        made, message = drawn
        decoded = Decoded(made.features, loaded.decoder.origin, loaded.bundle.fit)
        self.fits.measure(message, made.pixels, decoded, identity_of(work, loaded.bundle, self.generator.digest))
        if self.captioner is not None:
            captioned = caption_of(work, self.captioner, next(iter(made.features.values())))
            self.logs.publish("caption", work, captioned, identity_of(work, loaded.bundle, self.captioner.digest))
            if self.refinements is not None and work.stage == "final" and made.version == "full":
                lowlevel = None if made.lowlevel is None else self.blobs.put(png_bytes(made.lowlevel))
                refinement = RefinementWork(
                    made=message, caption=captioned.text, lowlevel=lowlevel, logged_t=work.logged_t
                )
                self.refinements.put(refinement.key, dump_refinement(refinement), identity=work.beta)

    def skip(self, work: BetaWork) -> None:
        """Publish that a newer stage of the trial came before this one was drawn."""
        self._retrievals.pop((work.key, work.beta), None)
        self.logs.publish("skipped", work, skipped(work, "a newer stage came first"), work.beta)

    def prepare_next(self) -> None:
        """Between trials: what the next one's reconstruction needs of its seed. Without memory it waits."""
        if self.bundles.names:
            self.fits.prepare()
        if self._next is not None:
            (loaded, seed), self._next = self._next, None
            with contextlib.suppress(MindsightError), self.placement.memory_reported():
                loaded.decoder.expect(seed)

    def _drawn_in_memory(
        self, work: BetaWork, loaded: LoadedBundle, betas: Betas, retrieval: Retrieval
    ) -> tuple[Reconstructed, Reconstruction] | None:
        """The best version that the memory is enough for, published; None if it is not enough for any."""
        while (level := self.levels.of(work.session)) != Level.NOTHING:
            try:
                with self.placement.memory_reported():
                    return self._published(level, work, loaded, betas, retrieval)
            except MindsightError as error:
                if error.code != "device.memory":
                    raise
                lower = self.levels.lower(work.session)
                text = text_of(lower, self.placement.device)
                self.logs.warn_once(work, error.code, lower.name.lower(), text)
        return None

    def _published(
        self, level: Level, work: BetaWork, loaded: LoadedBundle, betas: Betas, retrieval: Retrieval
    ) -> tuple[Reconstructed, Reconstruction]:
        seed = seed_of(work, loaded.bundle.digest)
        identity = identity_of(work, loaded.bundle, self.generator.digest)
        for made in loaded.decoder.versions(retrieval, seed, work.stage, sparing=level >= Level.SPARING):
            is_last = made.version == "full" or level == Level.PREVIEW
            message = reconstruction_of(work, loaded, betas, made, seed, self.generator, self.blobs, with_map=is_last)
            self.logs.publish(_KINDS[made.version], work, message, identity)
            if is_last:
                break
        return made, message
