"""How betas are estimated is chosen among the images that were shown, and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mindsight.ingest import IngestOptions
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.retrieval import CandidatePool, cosine_scores
from training.calibration.glm_choice import Chosen
from training.calibration.model_choice import in_own_span, keep_choice, read_choice


def test_images_keep_their_cosines_in_fewer_numbers() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(6, 4, 16)).astype(np.float32)
    pool = CandidatePool(tuple("abcdef"), np.concatenate([tokens[:5], tokens[:1] * 2.0]))
    short = in_own_span(pool)
    assert short.embeddings.shape == (6, 6)
    np.testing.assert_allclose(cosine_scores(short.embeddings, short), cosine_scores(pool.embeddings, pool), atol=1e-5)
    classes = CandidatePool(tuple("abc"), np.eye(3, dtype=np.float32))
    assert in_own_span(classes) is classes


def test_what_was_chosen_is_read_as_it_was(tmp_path: Path) -> None:
    options = IngestOptions(normalise="run", high_pass_hz=0.002, limits=QualityLimits(fd_mm=None))
    assert not Chosen(options).differs_from(options)
    chosen = Chosen(replace(options, ridge_fraction=0.5), hrf_V=np.array([1, 2], np.uint8))
    assert chosen.differs_from(options)
    keep_choice(chosen, tmp_path / "model.safetensors")
    read = read_choice(tmp_path / "model.safetensors")
    assert read.options == chosen.options
    np.testing.assert_array_equal(read.hrf_V, chosen.hrf_V)
    assert (read.lag_V, read.noise_pool_V) == (None, None)
