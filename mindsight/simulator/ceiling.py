"""The noise ceiling of a simulated session.

An observer who knows the participant's true response to every candidate, and the errors of single-trial betas,
identifies the image of each trial by maximum likelihood (a Gaussian with full covariance where candidates differ). If
the errors are Gaussian, no decoder of single betas is better on average. Motion is taken as perfectly corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy
from mindsight.glm import Event, StreamingGLM
from mindsight.simulator.experiment import RunPlan
from mindsight.simulator.scanner import Noise, response_courses


def simulate_series(
    plan: RunPlan, responses_NV: NDArray[np.float64], noise: Noise, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(T, V) percent signal of the visual voxels in one run, after perfect motion correction.

    Makes no volumes, for the ceiling and for training decoders at scale.
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


def final_betas(
    plan: RunPlan, series_TV: NDArray[np.float64], noise_model: Literal["ols", "ar1"] = "ar1"
) -> NDArray[np.float64]:
    """(K, V) single-trial betas at the end of the run, by the estimator that runs live."""
    glm = StreamingGLM(series_TV.shape[1], plan.tr_s, noise=noise_model)
    for shown in plan.shown:
        glm.add_event(Event(shown.onset_s, shown.duration_s, shown.trial))
    for y_V in series_TV:
        glm.push(y_V.astype(np.float32))
    return np.stack([glm.beta(shown.trial) for shown in plan.shown]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Observer:
    """An ideal observer, who knows the response to every candidate and the errors of the measurement.

    Works in the few dimensions in which candidates differ, where the full covariance of the errors can be estimated. It
    matters: overlapping responses of neighbouring trials cause correlated errors in many voxels.

    gain : of betas over percent signal change, the same for every voxel
    offset_V, scale_V : mean and standard deviation of each voxel's error
    basis_VR : directions in which the candidates differ, after scaling
    precision_RR : inverse covariance of the errors along them
    """

    gain: float
    offset_V: NDArray[np.float64]
    scale_V: NDArray[np.float64]
    basis_VR: NDArray[np.float64]
    precision_RR: NDArray[np.float64]

    @classmethod
    def learn(
        cls, betas_KV: NDArray[np.float64], shown_K: Sequence[int], responses_NV: NDArray[np.float64]
    ) -> Observer:
        """Estimate the errors from trials with known images, other than those to be identified."""
        true_KV = responses_NV[list(shown_K)]
        mean_V = true_KV.mean(axis=0)
        gain = float(((true_KV - mean_V) * betas_KV).sum() / ((true_KV - mean_V) ** 2).sum())
        error_KV = betas_KV - gain * true_KV
        offset_V = error_KV.mean(axis=0)
        error_KV = error_KV - offset_V
        scale_V = error_KV.std(axis=0).clip(1e-9)
        differences_NV = gain * (responses_NV - responses_NV.mean(axis=0)) / scale_V
        _, strength_R, directions_RV = np.linalg.svd(differences_NV, full_matrices=False)
        share_R = np.cumsum(strength_R**2) / (strength_R**2).sum()
        rank = min(int(np.searchsorted(share_R, 0.999)) + 1, max(1, len(betas_KV) // 4))
        basis_VR = directions_RV[:rank].T
        along_KR = (error_KV / scale_V) @ basis_VR
        covariance_RR = along_KR.T @ along_KR / len(along_KR)
        shrunk_RR = 0.9 * covariance_RR + 0.1 * np.trace(covariance_RR) / rank * np.eye(rank)
        return cls(gain, offset_V, scale_V, basis_VR, np.linalg.inv(shrunk_RR))

    def identify(self, betas_KV: NDArray[np.float64], responses_NV: NDArray[np.float64]) -> NDArray[np.intp]:
        """(K,) the candidate that makes each beta most likely."""
        seen_KR = ((betas_KV - self.offset_V) / self.scale_V) @ self.basis_VR
        expected_NR = (self.gain * responses_NV / self.scale_V) @ self.basis_VR
        difference_KNR = seen_KR[:, None] - expected_NR[None]
        distance_KN = np.einsum("knr,rs,kns->kn", difference_KNR, self.precision_RR, difference_KNR, optimize=True)
        return np.asarray(np.argmin(distance_KN, axis=1))


def ceiling(
    plans: Sequence[RunPlan],
    responses_NV: NDArray[np.float64],
    noise: Noise,
    seed: int,
    noise_model: Literal["ols", "ar1"] = "ar1",
    n_learning_runs: int = 6,
) -> Accuracy:
    """Top-1 over all candidates that the ``final`` betas of these runs allow, with its n and its interval.

    The observer learns the errors on runs of the same plans with other noise and other images, then identifies the
    images of these runs.

    responses_NV : (candidates, V) the participant's true responses to every candidate
    """
    rng = np.random.default_rng([seed, 6])

    def measure(plan: RunPlan) -> NDArray[np.float64]:
        return final_betas(plan, simulate_series(plan, responses_NV, noise, rng), noise_model)

    learned_betas, learned_shown = [], []
    for i in range(n_learning_runs):
        plan = plans[i % len(plans)]
        drawn = rng.integers(0, len(responses_NV), len(plan.shown))
        other = replace(plan, shown=tuple(replace(s, candidate=int(c)) for s, c in zip(plan.shown, drawn, strict=True)))
        learned_betas.append(measure(other))
        learned_shown += drawn.tolist()
    observer = Observer.learn(np.concatenate(learned_betas), learned_shown, responses_NV)

    named = observer.identify(np.concatenate([measure(plan) for plan in plans]), responses_NV)
    shown = np.array([s.candidate for plan in plans for s in plan.shown])
    return Accuracy(hits=int((named == shown).sum()), n=len(shown), chance=1.0 / len(responses_NV))
