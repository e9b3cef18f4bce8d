"""What is possible: the noise ceiling of a simulated session.

An observer who knows the participant's true responses to every candidate, and each voxel's noise, names the picture of
each trial by maximum likelihood. Nobody who has only the betas can do better on average, as far as the noise is
independent between voxels (here it is, by construction, but for what motion leaves).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation.accuracy import Accuracy
from mindsight.glm import Event, StreamingGLM
from mindsight.simulator.experiment import RunPlan
from mindsight.simulator.scanner import Noise, response_courses


def simulate_series(
    plan: RunPlan, responses_NV: NDArray[np.float64], noise: Noise, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(T, V) percent signal of the visual voxels in one run, as perfect motion correction would leave it.

    A shortcut past the images, for the ceiling and for training decoders at scale.
    """
    course_TV = response_courses(plan) @ responses_NV[[s.candidate for s in plan.shown]]
    n_volumes, n_voxels = course_TV.shape
    physiological_TV = rng.normal(size=(n_volumes, n_voxels)) * noise.physiological_percent
    for t in range(1, n_volumes):
        physiological_TV[t] = noise.ar * physiological_TV[t - 1] + np.sqrt(1.0 - noise.ar**2) * physiological_TV[t]
    drift_V = noise.drift_percent * rng.normal(size=n_voxels)
    drift_TV = np.cos(np.pi * np.arange(n_volumes) / n_volumes)[:, None] * drift_V
    thermal_TV = noise.thermal_percent * rng.normal(size=(n_volumes, n_voxels))
    return np.asarray(100.0 + course_TV + physiological_TV + drift_TV + thermal_TV)


def final_betas(plan: RunPlan, series_TV: NDArray[np.float64], noise_model: str = "ar1") -> NDArray[np.float64]:
    """(K, V) single-trial betas at the end of the run, by the same estimator as live."""
    glm = StreamingGLM(series_TV.shape[1], plan.tr_s, noise=noise_model)
    for shown in plan.shown:
        glm.add_event(Event(shown.onset_s, shown.duration_s, shown.trial))
    for y_V in series_TV:
        glm.push(y_V.astype(np.float32))
    return np.stack([glm.beta(shown.trial) for shown in plan.shown]).astype(np.float64)


def identify(
    betas_KV: NDArray[np.float64], shown_K: Sequence[int], responses_NV: NDArray[np.float64]
) -> NDArray[np.intp]:
    """(K,) the candidate that makes each beta most likely, for somebody who knows responses and noise.

    Gain, offset and noise variance of every voxel are read off the trials themselves, with the truth at hand.
    """
    true_KV = responses_NV[list(shown_K)]
    centred_KV = true_KV - true_KV.mean(axis=0)
    gain_V = (centred_KV * betas_KV).sum(axis=0) / (centred_KV**2).sum(axis=0).clip(1e-12)
    offset_V = betas_KV.mean(axis=0) - gain_V * true_KV.mean(axis=0)
    residual_KV = betas_KV - offset_V - gain_V * true_KV
    weight_V = 1.0 / residual_KV.var(axis=0).clip(1e-12)
    expected_NV = offset_V + gain_V * responses_NV
    # |b - e|^2 under the weights, without the term that all candidates share
    cross_KN = (betas_KV * weight_V) @ expected_NV.T
    own_N = (expected_NV**2 * weight_V).sum(axis=1)
    return np.argmax(2.0 * cross_KN - own_N, axis=1)


def ceiling(
    plans: Sequence[RunPlan], responses_NV: NDArray[np.float64], noise: Noise, seed: int, noise_model: str = "ar1"
) -> Accuracy:
    """Top-1 over all candidates that the ``final`` betas of these runs allow, with its n and its interval.

    responses_NV : (candidates, V) the participant's true responses to every candidate
    """
    rng = np.random.default_rng([seed, 6])
    betas, shown = [], []
    for plan in plans:
        betas.append(final_betas(plan, simulate_series(plan, responses_NV, noise, rng), noise_model))
        shown += [s.candidate for s in plan.shown]
    named = identify(np.concatenate(betas), shown, responses_NV)
    hits = int((named == np.array(shown)).sum())
    return Accuracy(hits=hits, n=len(shown), chance=1.0 / len(responses_NV))
