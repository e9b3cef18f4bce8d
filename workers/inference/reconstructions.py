"""A reconstruction and its caption as messages.

Knows nothing of queues or logs. V voxels, N tokens of C channels.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
from numpy.typing import NDArray

from mindsight.blobs import Blobs
from mindsight.captions import Captioner
from mindsight.decoding import Reconstructed, z_scored
from mindsight.files.images import png_bytes
from mindsight.generators.base import Generator
from mindsight.preprocessing.figures.brain_map import draw_brain_map
from mindsight.protocol import Captioned, Reconstruction, ReconstructionSkipped, StageLatency
from mindsight.protocol.work import BetaWork
from workers.clock import CLOCK
from workers.inference.bundles import LoadedBundle
from workers.inference.results import Betas


def seed_of(work: BetaWork, model: str) -> int:
    """The seed of one trial, the same for each of its stages: what changes between them is the beta, not the noise.

    model : digest of the bundle
    """
    name = f"{work.session}/{work.run}/{work.trial}/{model}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1


def reconstruction_of(
    work: BetaWork,
    loaded: LoadedBundle,
    betas: Betas,
    made: Reconstructed,
    seed: int,
    generator: Generator,
    blobs: Blobs,
    *,
    with_map: bool,
) -> Reconstruction:
    """The message of a reconstruction; its image is put into the blob store.

    with_map : the brain map of its beta, too, which a preview does not wait for
    """
    brain_map = _brain_map(loaded, betas, blobs) if with_map else None
    image = blobs.put(png_bytes(made.pixels))
    now = time.time()
    return Reconstruction(
        session=work.session,
        t=now,
        run=work.run,
        trial=work.trial,
        stage=work.stage,
        version=made.version,
        image=image,
        seed=seed,
        evaluations=made.steps,
        generator=generator.digest,
        from_ranking=made.from_ranking,
        brain_map=brain_map,
        latency_ms=StageLatency(**made.timings_ms, reconstruction=CLOCK.since_ms(work.logged_t)),
    )


def _brain_map(loaded: LoadedBundle, betas: Betas, blobs: Blobs) -> str:
    z_V = z_scored(*betas).reshape(-1, betas.beta.shape[-1]).mean(axis=0)
    space = loaded.bundle.space
    return blobs.put(png_bytes(draw_brain_map(space.reference, space.mask_XYZ, z_V)))


def skipped(work: BetaWork, reason: str) -> ReconstructionSkipped:
    """The message that this stage has no reconstruction.

    reason : completes "not drawn: "
    """
    return ReconstructionSkipped(
        session=work.session,
        t=time.time(),
        run=work.run,
        trial=work.trial,
        stage=work.stage,
        text=f"not drawn: {reason}",
    )


def caption_of(work: BetaWork, captioner: Captioner, tokens_1NC: NDArray[np.float32]) -> Captioned:
    """The message of a reconstruction's caption, from its tokens (1, N, C)."""
    (text,) = captioner.caption(tokens_1NC)
    return Captioned(
        session=work.session,
        t=time.time(),
        run=work.run,
        trial=work.trial,
        stage=work.stage,
        text=text,
        model=captioner.digest,
    )
