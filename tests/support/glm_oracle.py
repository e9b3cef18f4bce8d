"""Small synthetic runs, and nilearn's answer to them: the oracle of this room."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.glm import Event


@dataclass(frozen=True)
class Run:
    """series_TV raw values, confounds_TC, the events and the TR of one run."""

    series_TV: NDArray[np.float32]
    confounds_TC: NDArray[np.float64]
    events: tuple[Event, ...]
    tr_s: float


def make_run(
    n_frames: int = 90,
    n_voxels: int = 300,
    tr_s: float = 1.5,
    soa_s: float = 6.1,
    duration_s: float = 3.0,
    n_confounds: int = 6,
    seed: int = 0,
) -> Run:
    """Autoregressive noise of every strength, drifts, an unsteady first frame; equal events one after another."""
    rng = np.random.default_rng(seed)
    rho_V = rng.uniform(-0.3, 0.9, n_voxels)
    noise_TV = np.zeros((n_frames, n_voxels))
    for i in range(n_frames):
        noise_TV[i] = (rho_V * noise_TV[i - 1] if i else 0.0) + rng.normal(0, 10, n_voxels)
    drift_TV = np.linspace(0, 1, n_frames)[:, None] * rng.normal(0, 40, n_voxels)
    series_TV = (1000 + rng.normal(0, 100, n_voxels) + noise_TV + drift_TV).astype(np.float32)
    series_TV[0] += 300
    confounds_TC = np.cumsum(rng.normal(0, 0.02, (n_frames, n_confounds)), axis=0)
    onsets = np.arange(2.3, n_frames * tr_s - 1, soa_s)
    events = tuple(Event(float(onset), duration_s, trial) for trial, onset in enumerate(onsets, start=1))
    return Run(series_TV, confounds_TC, events, tr_s)


def nilearn_beta(
    run: Run,
    trial: int,
    n_frames: int,
    noise: str,
    hrf: str = "glover",
    high_pass_hz: float = 0.01,
    censored: tuple[int, ...] = (),
) -> NDArray[np.float64]:
    """(V,) nilearn's estimate of one trial from the first ``n_frames`` frames."""
    return nilearn_effect(run, trial, n_frames, noise, hrf, high_pass_hz, censored)[0]


def nilearn_effect(
    run: Run,
    trial: int,
    n_frames: int,
    noise: str,
    hrf: str = "glover",
    high_pass_hz: float = 0.01,
    censored: tuple[int, ...] = (),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(V,) nilearn's estimate of one trial from the first ``n_frames`` frames, and (V,) its standard error."""
    import pandas as pd
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

    started = [event for event in run.events if event.onset_s <= (n_frames - 1) * run.tr_s]
    table = pd.DataFrame(
        {
            "onset": [event.onset_s for event in started],
            "duration": [event.duration_s for event in started],
            "trial_type": ["probe" if event.trial == trial else "reference" for event in started],
        }
    )
    added_TP = np.column_stack([run.confounds_TC[:n_frames], *(np.arange(n_frames) == i for i in censored)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        design = make_first_level_design_matrix(
            run.tr_s * np.arange(n_frames),
            table,
            hrf_model=hrf,
            drift_model="cosine",
            high_pass=high_pass_hz,
            add_regs=added_TP if added_TP.shape[1] else None,
        )
        labels, results = run_glm(run.series_TV[:n_frames].astype(np.float64), design.to_numpy(), noise_model=noise)
    contrast_P = np.array([float(name == "probe") for name in design.columns])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compute_contrast(labels, results, contrast_P, stat_type="t")
        return np.squeeze(found.effect_size()), np.sqrt(np.squeeze(found.effect_variance()))
