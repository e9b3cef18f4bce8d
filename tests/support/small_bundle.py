"""The smallest subject bundle."""

from __future__ import annotations

import numpy as np

from mindsight.accuracy import Accuracy
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume


def make_bundle(n_statistics: int = 12) -> Bundle:
    rng = np.random.default_rng(0)
    mask = np.zeros((4, 3, 2), bool)
    mask[:2] = True
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    pool = CandidatePool(tuple("abc"), np.eye(3, dtype=np.float32), tuple("abc"))
    return Bundle(
        subject="sub-01",
        created="2025-01-01T00:00:00Z",
        options=IngestOptions(high_pass_hz=0.005, event_lag_s=-3.0, normalise="run", revised_s=None),
        space=SubjectSpace(
            Volume(rng.normal(size=(4, 3, 2)).astype(np.float32), affine, tr_s=2.5, run=1, index=0), mask
        ),
        statistics=Statistics(np.zeros(n_statistics, np.float32), np.ones(n_statistics, np.float32), 24),
        calibration=Calibration(0.3, 0.4, 1.2, 24),
        pool=pool,
        decoder=LinearDecoder.fit(rng.normal(size=(9, 12)), np.eye(3)[[0, 1, 2] * 3]),
        labels="trial_type",
        accuracy=Accuracy(5, 24, 1 / 3),
    )
