"""An answer over several trials of one image: the mean is taken of what each one decodes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mindsight import assets
from mindsight.decoders.mindeye2 import fold, load_mindeye2
from mindsight.decoders.mindeye2.decoder import BACKBONE, MindEye2Weights
from mindsight.decoding import TrialDecoder, z_scored
from mindsight.subjects.bundle.folder import Bundle
from support.linear_bundle import N_VOXELS, linear_bundle, ticks


@pytest.fixture(scope="module")
def linear() -> Bundle:
    return linear_bundle()


def repeats(n: int, n_voxels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    beta_RV = rng.normal(100.0, 3.0, (n, n_voxels)).astype(np.float32)
    mean_RV = np.full((n, n_voxels), 100.0, np.float32) + rng.normal(size=(n, 1)).astype(np.float32)
    return beta_RV, mean_RV, np.full((n, n_voxels), 3.0, np.float32)


def test_for_a_linear_decoder_it_is_the_mean_of_the_z_scored_betas(linear: Bundle) -> None:
    decoder = TrialDecoder(linear, clock=ticks())
    beta_RV, mean_RV, std_RV = repeats(3, N_VOXELS)
    averaged = decoder.retrieve(beta_RV, mean_RV, std_RV)
    z_V = z_scored(beta_RV, mean_RV, std_RV).mean(axis=0)
    at_once = decoder.retrieve(z_V, np.zeros(N_VOXELS), np.ones(N_VOXELS))
    assert [c.id for c in averaged.candidates] == [c.id for c in at_once.candidates]
    assert [c.score for c in averaged.candidates] == pytest.approx([c.score for c in at_once.candidates], abs=1e-5)
    assert averaged.confidence != decoder.retrieve(beta_RV[0], mean_RV[0], std_RV[0]).confidence
    one = decoder.retrieve(beta_RV[:1], mean_RV[:1], std_RV[:1])
    assert one.candidates == decoder.retrieve(beta_RV[0], mean_RV[0], std_RV[0]).candidates


def test_for_mindeye2_it_is_the_mean_after_each_head_as_in_the_reference() -> None:
    bundle = Bundle.load(assets.BUNDLE)
    assert isinstance(bundle.decoder, MindEye2Weights)
    n = bundle.space.n_voxels
    beta_RV, mean_RV, std_RV = repeats(3, n)
    found = TrialDecoder(bundle, clock=ticks(), n_candidates=len(bundle.pool)).retrieve(beta_RV, mean_RV, std_RV)
    z_RV = z_scored(beta_RV, mean_RV, std_RV)
    model = fold(load_mindeye2(bundle.decoder.path))
    each = [model.tokens(torch.from_numpy(z_V[None])) for z_V in z_RV]
    query = torch.stack([tokens.retrieval[0] for tokens in each]).mean(0).numpy().reshape(-1).astype(np.float64)
    backbone = torch.stack([tokens.backbone[0] for tokens in each]).mean(0).numpy()
    np.testing.assert_allclose(found.condition[BACKBONE][0], backbone, atol=1e-4 * np.abs(backbone).max())
    pool_ND = bundle.pool.flat_ND.astype(np.float64)
    cosines = pool_ND @ query / np.linalg.norm(pool_ND, axis=1) / np.linalg.norm(query)
    scores = {bundle.pool.ids.index(c.id): c.score for c in found.candidates}
    np.testing.assert_allclose([scores[i] for i in range(len(pool_ND))], cosines, atol=1e-4)
    # the backbone is affine, so that the mean of the voxels would do; the retrieval head is not
    at_once = model.tokens(torch.from_numpy(z_RV.mean(axis=0)[None]))
    np.testing.assert_allclose(at_once.backbone[0].numpy(), backbone, atol=1e-4 * np.abs(backbone).max())
    before = at_once.retrieval.numpy().reshape(-1)
    assert np.abs(before - query).max() > 0.01 * np.abs(query).max()
