"""The cohort's errors are what they are said to be, and no decoder does better than the best one."""

from __future__ import annotations

import numpy as np

from mindsight.simulator.cohort import DIM, N_TOKENS, CohortSubject, factors, look_alikes, tokens_of


def test_betas_have_the_covariance_that_the_best_decoder_assumes() -> None:
    subject = CohortSubject(1, 30)
    betas_KV = subject.measure(np.zeros((40_000, 32)), np.random.default_rng(0))
    expected_VV = subject.error_VV
    # each entry of the covariance has a standard error of at most sqrt(2) times the larger variance over 200
    np.testing.assert_allclose(np.cov(betas_KV.T), expected_VV, atol=5 * 2**0.5 * expected_VV.max() / 200)


def test_the_signal_share_is_the_share_of_variance_that_images_explain() -> None:
    subject, rng = CohortSubject(2, 200), np.random.default_rng(1)
    seen_KF = factors(rng, 4000)
    measured_V = subject.responses(seen_KF).var(axis=0) / subject.measure(seen_KF, rng).var(axis=0)
    np.testing.assert_allclose(measured_V, subject.signal_share_V, atol=0.03)
    assert (subject.signal_share_V == 0).mean() > 0.1


def test_the_likelihood_is_that_of_the_errors_and_beats_nearest_response() -> None:
    subject, rng = CohortSubject(3, 120), np.random.default_rng(2)
    candidates_NF = look_alikes(rng, 30, 3)
    right_K = np.tile(np.arange(90), 6)
    betas_KV = subject.measure(candidates_NF[right_K], rng)
    found_KN = subject.log_likelihood(betas_KV, candidates_NF)
    difference_KNV = betas_KV[:5, None] - subject.responses(candidates_NF)[None]
    written_KN = -0.5 * np.einsum("knv,knv->kn", difference_KNV @ np.linalg.inv(subject.error_VV), difference_KNV)
    np.testing.assert_allclose(np.diff(found_KN[:5]), np.diff(written_KN), atol=1e-6 * np.abs(written_KN).max())
    best = (found_KN.argmax(axis=1) == right_K).mean()
    nearest_KN = betas_KV @ subject.responses(candidates_NF).T
    nearest_KN -= 0.5 * (subject.responses(candidates_NF) ** 2).sum(axis=1)
    assert best > (nearest_KN.argmax(axis=1) == right_K).mean() + 0.05


def test_images_of_one_family_look_alike_and_tokens_are_normalised() -> None:
    tokens_NTD = tokens_of(look_alikes(np.random.default_rng(3), 40, 3))
    assert tokens_NTD.shape == (120, N_TOKENS, DIM)
    np.testing.assert_allclose(tokens_NTD.mean(axis=2), 0.0, atol=1e-5)
    np.testing.assert_allclose(tokens_NTD.std(axis=2), 1.0, atol=1e-4)
    flat_NX = tokens_NTD.reshape(120, -1)
    cosine_NN = flat_NX @ flat_NX.T / len(flat_NX[0])
    nearest_N = (cosine_NN - 2 * np.eye(120)).argmax(axis=1)
    assert (nearest_N // 3 == np.arange(120) // 3).mean() > 0.95
