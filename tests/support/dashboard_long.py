"""A session of four hours as messages: eleven runs of 63 trials, with images as large as real ones.

Knows nothing of the dashboard. Images repeat after some hundred.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from mindsight.protocol.messages import (
    BetaReady,
    Candidate,
    EventAdded,
    Message,
    Reconstruction,
    ReconstructionFit,
    Result,
    RunEnded,
    RunStarted,
    SessionOpened,
    StageLatency,
    VolumeProcessed,
    VolumeReceived,
)
from mindsight.stages import STAGES, Stage
from support.dashboard_record import STARTED_T, Record

RUNS, TRIALS, VOLUMES, TR_S = 11, 63, 873, 1.5  # 11 x 21.8 min
IMAGES, SIDE = 240, 256  # 190 KB each
DIGEST = hashlib.sha256(b"a model").hexdigest()
DUE_S: dict[Stage, float] = {"fast": 7.5, "revised": 27.5}


def long_session() -> Record:
    """Its messages, numbered from 1."""
    record = Record("ses-long", usable_min=200.0)
    rng = np.random.default_rng(5)
    images = [record.add_image(Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8))) for _ in range(IMAGES)]
    opened = SessionOpened(session="ses-long", t=STARTED_T, subject="sub-long", bundle="bundle-1", pool_size=1000)
    record.add(opened)
    for run in range(1, RUNS + 1):
        for message in _run(run, STARTED_T + (run - 1) * (VOLUMES * TR_S + 60), images):
            record.add(message)
    return record


def _run(run: int, t: float, images: list[str]) -> Iterator[Message]:
    rng = random.Random(run)
    common = {"session": "ses-long", "run": run}
    yield RunStarted(**common, t=t, task="pictures", tr_s=TR_S, n_volumes=VOLUMES)
    onsets = [6.0 + 20.0 * i for i in range(TRIALS)]
    for i, onset_s in enumerate(onsets):
        shown = rng.randrange(IMAGES)
        stimulus = {"stimulus": images[shown], "candidate": f"image-{shown}", "label": f"image-{shown}"}
        yield EventAdded(**common, t=t, trial=i + 1, onset_s=onset_s, duration_s=3.0, **stimulus)
    for index in range(VOLUMES):
        t += TR_S
        yield VolumeReceived(**common, t=t, index=index, latency_ms=StageLatency(receive=rng.gammavariate(9, 1.3)))
        moved = rng.random() < 0.02
        yield VolumeProcessed(
            **common,
            t=t + 0.05,
            index=index,
            translation_mm=(rng.gauss(0, 0.2), rng.gauss(0, 0.2), rng.gauss(0, 0.2)),
            rotation_deg=(rng.gauss(0, 0.2), rng.gauss(0, 0.2), rng.gauss(0, 0.2)),
            fd_mm=0.9 if moved else abs(rng.gauss(0.1, 0.05)),
            dvars_percent=abs(rng.gauss(1.5, 0.1)),
            tsnr=60 + rng.gauss(0, 0.3),
            censored=moved,
            censored_by="motion" if moved else None,
            latency_ms=StageLatency(queue=2.0, motion=rng.gammavariate(20, 0.8), glm=rng.gammavariate(9, 0.8)),
        )
        now = (index + 1) * TR_S
        for i, onset_s in enumerate(onsets):
            for stage, due_s in DUE_S.items():
                if now - TR_S < onset_s + due_s <= now:
                    yield from _decoded(common, t + 0.1, i + 1, stage, rng, images)
    yield RunEnded(**common, t=t, n_volumes=VOLUMES)
    for i in range(TRIALS):
        yield from _decoded(common, t + 0.2, i + 1, STAGES[-1], rng, images)


def _decoded(
    common: dict[str, object], t: float, trial: int, stage: Stage, rng: random.Random, images: list[str]
) -> Iterator[Message]:
    where = {**common, "t": t, "trial": trial, "stage": stage}
    latency = StageLatency(beta=rng.gammavariate(20, 1.9))
    yield BetaReady(**where, n_volumes=100, n_voxels=8627, flagged=False, beta=DIGEST, latency_ms=latency)
    order = rng.sample(range(IMAGES), 100)
    candidates = tuple(
        Candidate(id=f"image-{i}", label=f"image-{i}", image=images[i], score=0.4 - 0.003 * k, probability=0.5**k)
        for k, i in enumerate(order, 1)
    )
    yield Result(
        **where,
        candidates=candidates,
        confidence=0.5,
        null_confidence=0.1,
        chance=0.001,
        pool_size=1000,
        model=DIGEST,
        pool=DIGEST,
        normalised_by="running",
        to_be_drawn=True,
        latency_ms=StageLatency(decode=4.0, retrieve=2.0, retrieval=20.0),
    )
    image = rng.choice(images)
    made = StageLatency(generate=57.0, reconstruction=77.0)
    yield Reconstruction(
        **where, image=image, seed=rng.getrandbits(62), evaluations=8, generator=DIGEST, latency_ms=made
    )
    yield ReconstructionFit(**where, image=image, token_cosine=0.4, fit_percentile=80.0, encoder=DIGEST)
