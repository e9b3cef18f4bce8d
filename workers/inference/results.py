"""From a job to a result: the betas it names, and the message of what they were decoded to.

Knows nothing of queues or logs. V voxels, R repeats.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindsight.blobs import Blobs
from mindsight.decoding import Retrieval
from mindsight.protocol import Candidate, PairChoice, Result, StageLatency
from mindsight.protocol.work import BetaWork
from mindsight.subjects.bundle.folder import Bundle
from workers.clock import CLOCK
from workers.inference.bundles import LoadedBundle

FloatArray = NDArray[np.float32]


class Betas(NamedTuple):
    """(V,) beta, and the mean and standard deviation to z-score it by; (R, V) each if betas are averaged."""

    beta: FloatArray
    mean: FloatArray
    std: FloatArray


def read_betas(work: BetaWork, bundle: Bundle, blobs: Blobs) -> Betas:
    """The job's beta, and those it is averaged with."""
    named = [(work.beta, work.statistics), *((repeat.beta, repeat.statistics) for repeat in work.repeats)]
    read = [_read_beta(beta, statistics, bundle, blobs) for beta, statistics in named]
    if work.voxels is not None:
        keep_V = np.frombuffer(blobs.get(work.voxels), np.uint8) > 0
        read = [
            Betas(*(array_V if len(array_V) < len(keep_V) else array_V[keep_V] for array_V in betas)) for betas in read
        ]
    return read[0] if len(read) == 1 else Betas(*(np.stack(arrays) for arrays in zip(*read, strict=True)))


def _read_beta(beta: str, statistics: str | None, bundle: Bundle, blobs: Blobs) -> Betas:
    beta_V = np.frombuffer(blobs.get(beta), dtype="<f4")
    if statistics is None:
        return Betas(beta_V, bundle.statistics.mean_V, bundle.statistics.std_V)
    mean_V, std_V = np.frombuffer(blobs.get(statistics), dtype="<f4").reshape(2, -1)
    return Betas(beta_V, mean_V, std_V)


def identity_of(work: BetaWork, bundle: Bundle, *models: str) -> str:
    """Digest of everything a message about this job follows from: two messages with one identity are the same.

    models : digests of what came after the decoder
    """
    averaged = [repeat.beta for repeat in work.repeats]
    parts = [work.beta, work.statistics or "", *averaged, bundle.digest, *models]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def result_of(work: BetaWork, loaded: LoadedBundle, retrieval: Retrieval) -> Result:
    """The message of a retrieval."""
    now = time.time()
    candidates = tuple(
        Candidate(
            id=found.id,
            label=found.label,
            image=loaded.images.get(found.id),
            score=found.score,
            probability=found.probability,
        )
        for found in retrieval.candidates
    )
    return Result(
        session=work.session,
        t=now,
        run=work.run,
        trial=work.trial,
        stage=work.stage,
        candidates=candidates,
        confidence=retrieval.confidence,
        null_confidence=retrieval.null_confidence,
        margin=retrieval.margin,
        null_share=retrieval.null_share,
        chance=retrieval.chance,
        pairs=tuple(PairChoice(**asdict(choice)) for choice in retrieval.pairs),
        pool_size=len(loaded.bundle.pool),
        flagged=work.flagged,
        model=loaded.bundle.digest,
        pool=loaded.bundle.pool_digest,
        normalised_by=work.normalised_by,
        n_statistics=work.n_statistics,
        n_run=work.n_run,
        warming_up=work.warming_up,
        n_repeats=1 + len(work.repeats),
        to_be_drawn=bool(retrieval.condition),
        latency_ms=StageLatency(
            decode=retrieval.timings_ms["decode"],
            retrieve=retrieval.timings_ms["retrieve"],
            retrieval=CLOCK.since_ms(work.logged_t),
        ),
    )
