"""In the workers' place: every trial that is declared gets a beta, results and a picture at once, in the session's log.

What a client sees is the gateway's own: only who decodes is simulated, so that a session costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log, read_many
from mindsight.files.images import png_bytes
from mindsight.protocol import (
    BetaReady,
    Candidate,
    EventAdded,
    Message,
    Reconstruction,
    Result,
    SpaceKnown,
    VolumeProcessed,
    VolumeReceived,
    dump_message,
    parse_message,
)
from mindsight.stages import Stage
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from support.gateway_harness import Running

SHAPE, N_VOXELS = (4, 4, 2), 6
DIGEST = "0" * 64


class Answering:
    """One session's decoder. pixels : of every picture, (8, 8, 3)"""

    def __init__(self, running: Running, bus: Bus, session: str) -> None:
        self.pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
        self.betas: dict[tuple[int, int, str], np.ndarray] = {}
        self._log, self._session = Log(bus, session, "messages"), session
        self._blobs = BlobStore(running.settings.blobs_dir)
        self._image = self._blobs.put(png_bytes(self.pixels))
        self._stop = threading.Event()

    def run(self) -> None:
        after = 0
        mask = np.zeros(SHAPE, np.uint8)
        mask.reshape(-1)[:N_VOXELS] = 1
        mask_digest, reference = (
            self._blobs.put(encode_volume(Volume(data, np.diag([3.0, 3, 3, 1]), 2.0, 1, 0, acquired_s=0.0)))
            for data in (mask, np.full(SHAPE, 500, np.int16))
        )
        self._say(
            "space",
            SpaceKnown(
                session=self._session, t=1.0, shape=SHAPE, n_voxels=N_VOXELS, mask=mask_digest, reference=reference
            ),
        )
        while not self._stop.is_set():
            for entry in read_many({self._log: after}, 0.1).get(self._log, []):
                after = entry.seq
                message = parse_message(entry.payload)
                if isinstance(message, EventAdded) and message.trial is not None:
                    self._answer(message, "fast")
                    self._answer(message, "final")
                elif isinstance(message, VolumeReceived):
                    moved = (0.1 * message.index, 0.0, 0.0)
                    done = VolumeProcessed(
                        session=self._session, t=1.0, run=message.run, index=message.index, translation_mm=moved,
                        rotation_deg=(0.0, 0.0, 0.0), fd_mm=0.1, tsnr=60.0, censored=message.index == 2,
                    )  # fmt: skip
                    self._say(f"processed-{message.run}-{message.index}", done)

    def stop(self) -> None:
        self._stop.set()

    def _answer(self, event: EventAdded, stage: Stage) -> None:
        assert event.trial is not None
        beta_V = np.full(N_VOXELS, float(event.trial), np.float32)
        self.betas[event.run, event.trial, stage] = beta_V
        at = {"session": self._session, "t": 1.0, "run": event.run, "trial": event.trial, "stage": stage}
        digest = self._blobs.put(beta_V.astype("<f4").tobytes())
        name = f"{event.run}-{event.trial}-{stage}"
        beta = BetaReady(**at, n_volumes=5, n_voxels=N_VOXELS, flagged=False, beta=digest)
        self._say(f"beta-{name}", beta)
        candidates = (
            Candidate(
                id=event.candidate or "scene-001", label="a scene", image=self._image, score=0.9, probability=0.8
            ),
            Candidate(id="other", score=0.1, probability=0.1),
        )
        result = Result(
            **at, candidates=candidates, confidence=0.8, null_confidence=0.1, chance=0.01, pool_size=100, model=DIGEST,
            pool=DIGEST, normalised_by="bundle",
        )  # fmt: skip
        self._say(f"result-{name}", result)
        drawn = Reconstruction(**at, image=self._image, seed=1, evaluations=4, generator=DIGEST)
        self._say(f"reconstruction-{name}-full", drawn)

    def _say(self, key: str, message: Message) -> None:
        self._log.append(key, dump_message(message))


@contextmanager
def answering(running: Running, bus: Bus, session: str) -> Iterator[Answering]:
    worker = Answering(running, bus, session)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(10.0)
