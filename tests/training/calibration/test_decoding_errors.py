"""The errors of decoding are measured where images are decoded; where labels are, that is refused in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoding import TrialDecoder
from mindsight.errors import BadRequest
from mindsight.ingest.outputs import TrialBeta
from mindsight.retrieval import CandidatePool
from support.linear_bundle import N_VOXELS, linear_bundle, ticks
from training.calibration.command import main
from training.calibration.decoding_errors import _decoded
from training.calibration.fits import LabelledBeta


def test_labels_have_no_errors_of_tokens() -> None:
    whole, z_KV = linear_bundle(), np.random.default_rng(0).normal(size=(9, N_VOXELS))
    labels = CandidatePool(("a", "b"), np.eye(2, dtype=np.float32))
    named = replace(whole, pool=labels, decoder=LinearDecoder.fit(z_KV, labels.embeddings[[0, 1, 1] * 3]))
    beta = TrialBeta(1, 1, "final", z_KV[0], None, None, 9, False, np.zeros(N_VOXELS), np.ones(N_VOXELS), 9, "run")
    trial = LabelledBeta(beta, "a")
    tokens = _decoded(TrialDecoder(whole, clock=ticks()), trial)
    assert tokens is not None
    assert tokens.shape == (whole.pool.flat_ND.shape[1],)
    with pytest.raises(BadRequest, match="image tokens") as error:
        _decoded(TrialDecoder(named, clock=ticks()), trial)
    assert error.value.code == "calibration.tokens"


def test_a_probability_lies_between_0_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run-1", "run-2", "--out", "bundle", "--in-pool-prior", "1"])
    assert ended.value.code == 2
    assert "--in-pool-prior between 0 and 1, got 1" in capsys.readouterr().err
