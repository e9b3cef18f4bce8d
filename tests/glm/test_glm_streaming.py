"""The streaming GLM against nilearn, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from glm_oracle import Run, make_run, nilearn_beta

from mindsight.glm import StreamingGLM

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def small_run() -> Run:
    return make_run()


def started_glm(run: Run, noise: str, **options: object) -> StreamingGLM:
    glm = StreamingGLM(run.series_TV.shape[1], run.tr_s, noise=noise, n_confounds=run.confounds_TC.shape[1], **options)
    for event in run.events:
        glm.add_event(event)
    return glm


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_equals_nilearn_after_every_volume(small_run: Run, noise: str) -> None:
    glm = started_glm(small_run, noise)
    worst = {}
    for i, (y_V, confounds_C) in enumerate(zip(small_run.series_TV, small_run.confounds_TC, strict=True)):
        glm.push(y_V, confounds_C)
        asked = [e.trial for e in small_run.events if e.onset_s <= (i - 1) * small_run.tr_s and e.trial]
        for trial in {*asked[-2:], *asked[:1]}:
            expected_V = nilearn_beta(small_run, trial, i + 1, noise)
            worst[i, trial] = np.abs(glm.beta(trial) - expected_V).max() / expected_V.std()
    assert len(worst) > 200
    assert max(worst.values()) < TOLERANCE
