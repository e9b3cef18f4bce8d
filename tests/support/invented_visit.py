"""A calibration visit of an invented participant: betas that are linear in an image's tokens, with known noise.

Letters: N images, X numbers of an image's tokens, V voxels, K trials.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindsight.ingest import IngestOptions
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool
from mindsight.stages import STAGES
from mindsight.volume import Volume
from training.calibration.visit_runs import CalibrationRun

N_TOKENS, DIM, FACTORS = 4, 16, 10
GRID = (6, 6, 5)
V = 150  # of which the last 50 do not respond
NOISE = {"fast": 2.4, "revised": 1.8, "final": 1.5}


def images(seed: int, n: int) -> NDArray[np.float32]:
    """(n, N_TOKENS, DIM) tokens that a few hidden factors make, each token of mean 0 and variance 1."""
    mapping_FX = np.random.default_rng(0).normal(size=(FACTORS, N_TOKENS * DIM))
    tokens = np.tanh(np.random.default_rng(seed).normal(size=(n, FACTORS)) @ mapping_FX / 2)
    tokens = tokens.reshape(n, N_TOKENS, DIM)
    tokens -= tokens.mean(axis=2, keepdims=True)
    return (tokens / tokens.std(axis=2, keepdims=True)).astype(np.float32)


def stimuli(n: int = 160, seed: int = 5) -> CandidatePool:
    return CandidatePool(tuple(f"image-{i:03d}" for i in range(n)), images(seed, n))


def responses(person: int, tokens_NTD: NDArray[np.float32], n_voxels: int = V) -> NDArray[np.float64]:
    """(N, V) with a standard deviation of about 1 in the voxels that respond."""
    flat_NX = tokens_NTD.reshape(len(tokens_NTD), -1)
    weights_XV = np.random.default_rng(1000 + person).normal(size=(flat_NX.shape[1], n_voxels)) / 8
    weights_XV[:, -(n_voxels // 3) :] = 0.0
    return np.asarray(flat_NX @ weights_XV)


def space() -> SubjectSpace:
    mask_XYZ = np.zeros(GRID, np.bool_)
    mask_XYZ.flat[:V] = True
    return SubjectSpace(Volume(np.ones(GRID, np.float32), np.eye(4), 1.5, 1, 0), mask_XYZ)


OPTIONS = IngestOptions(normalise="run")


def run_of(
    pool: CandidatePool,
    number: int,
    person: int = 9,
    n_trials: int = 40,
    repeats: int = 8,
    noise: float = 1.0,
    n_voxels: int = V,
) -> CalibrationRun:
    """Images that no other run shows (of five), then ``repeats`` of them again."""
    rng = np.random.default_rng([person, number])
    drawn = (np.arange(n_trials - repeats) + 32 * (number - 1)) % len(pool)
    shown_K = np.concatenate([drawn, drawn[:repeats]])
    clean_KV = responses(person, np.asarray(pool.embeddings), n_voxels)[shown_K]
    betas = []
    for stage in STAGES:
        noisy_KV = (clean_KV + noise * NOISE[stage] * rng.normal(size=clean_KV.shape)).astype(np.float32)
        mean_V, std_V = noisy_KV.mean(axis=0), noisy_KV.std(axis=0)
        for k, beta_V in enumerate(noisy_KV):
            betas.append(
                TrialBeta(
                    run=number,
                    trial=k + 1,
                    stage=stage,
                    beta_V=beta_V,
                    error_V=None,
                    error=None,
                    n_volumes=100,
                    flagged=False,
                    mean_V=mean_V,
                    std_V=std_V,
                    n_statistics=len(noisy_KV),
                    normalised_by="run",
                    n_run=k + 1,
                )
            )
    shown = {k + 1: pool.ids[image] for k, image in enumerate(shown_K)}
    return CalibrationRun(run=number, betas=betas, shown=shown, minutes=4.0)
