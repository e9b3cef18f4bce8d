"""The streaming GLM against nilearn refits of the same data, in the same run, with the floor beside it.

    python benchmarks/bench_glm.py [--voxels 15000] [--volumes 192] [--grid 76 90 74] [--rounds 9] [--no-history]

Every round times every method once, in turn, so that whatever else the machine does falls on all of them; one thread
each. Reported are medians and minima of wall time, medians of process time, and the median over rounds of each ratio.

Floors, measured in the same rounds: for least squares one pass of BLAS over the series (every value must be read once),
for AR(1) the two products that give the residuals, at the speed that BLAS reaches on large matrices.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import nilearn
import numpy as np
import pandas as pd
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mindsight.glm import Event, StreamingGLM

HISTORY = Path(__file__).parent / "history" / "glm.json"
TR_S = 1.5
SOA_S = 4.0
ANSWER_S = 7.5


class Run:
    """A run of AR(1) noise on drifts, events every 4 s, six confounds, and every method's way to one trial's beta."""

    def __init__(self, n_voxels: int, n_volumes: int, grid: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(0)
        rho_V = rng.uniform(0.0, 0.6, n_voxels)
        series_TV = rng.normal(0, 10, (n_volumes, n_voxels))
        for i in range(1, n_volumes):
            series_TV[i] += rho_V * series_TV[i - 1]
        series_TV += 1000 + np.linspace(0, 1, n_volumes)[:, None] * rng.normal(0, 20, n_voxels)
        self.series_TV = series_TV.astype(np.float32)
        self.confounds_TC = np.cumsum(rng.normal(0, 0.02, (n_volumes, 6)), axis=0)
        self.onsets_s = np.arange(2.0, (n_volumes - 1) * TR_S, SOA_S)
        self.trial = int(np.flatnonzero(self.onsets_s <= n_volumes * TR_S - ANSWER_S)[-1])
        self.events = pd.DataFrame({"onset": self.onsets_s, "duration": 3.0, "trial_type": "reference"})
        self.events.loc[self.trial, "trial_type"] = "probe"
        self.frame_s = TR_S * np.arange(n_volumes)
        self.design = self.make_design()
        mask_XYZ = np.zeros(grid, np.uint8)
        mask_XYZ.reshape(-1)[:n_voxels] = 1
        data_XYZT = np.zeros((*grid, n_volumes), np.float32)
        data_XYZT[mask_XYZ > 0] = self.series_TV.T
        self.mask = nibabel.Nifti1Image(mask_XYZ, np.eye(4))
        self.image = nibabel.Nifti1Image(data_XYZT, np.eye(4))

    def glm(self, noise: str) -> StreamingGLM:
        glm = StreamingGLM(self.series_TV.shape[1], TR_S, noise=noise, n_confounds=6)
        for trial, onset_s in enumerate(self.onsets_s):
            glm.add_event(Event(float(onset_s), 3.0, trial))
        for y_V, confounds_C in zip(self.series_TV[:-1], self.confounds_TC[:-1], strict=True):
            glm.push(y_V, confounds_C)
        return glm

    def make_design(self) -> pd.DataFrame:
        return make_first_level_design_matrix(self.frame_s, self.events, add_regs=self.confounds_TC)

    def run_glm(self, noise: str) -> NDArray[np.float64]:
        labels, results = run_glm(self.series_TV, self.make_design().to_numpy(), noise_model=noise)
        beta_V = np.empty(self.series_TV.shape[1])
        for label, result in results.items():
            beta_V[labels == label] = result.theta[list(self.design.columns).index("probe")]
        return beta_V

    def first_level_model(self) -> None:
        model = FirstLevelModel(t_r=TR_S, mask_img=self.mask, noise_model="ar1", high_pass=0.01, reports=False)
        confounds = pd.DataFrame(self.confounds_TC, columns=[f"motion{i}" for i in range(6)])
        model.fit(self.image, events=self.events, confounds=confounds)
        model.compute_contrast("probe", output_type="effect_size")


def methods(run: Run) -> dict[str, Callable[[], object]]:
    """Each method's work for one trial's beta after the last volume."""
    ols, ar1 = run.glm("ols"), run.glm("ar1")
    states = {glm: glm.state() for glm in (ols, ar1)}

    def after_last_volume(glm: StreamingGLM, ask: Callable[[], object]) -> Callable[[], object]:
        def work() -> object:
            glm.push(run.series_TV[-1], run.confounds_TC[-1])
            return ask()

        return work

    series_VT = np.ascontiguousarray(run.series_TV.T)
    weights_T = np.ones(series_VT.shape[1], np.float32)
    basis_TR = np.linalg.qr(run.design.to_numpy())[0].astype(np.float32)

    def residuals() -> NDArray[np.float32]:
        return (series_VT @ basis_TR) @ basis_TR.T

    work = {
        "ours ols": after_last_volume(ols, lambda: ols.beta(run.trial)),
        "ours ols, all trials": after_last_volume(ols, ols.betas),
        "ours ols, standard error": after_last_volume(ols, lambda: ols.estimate(run.trial).error_V),
        "ours ar1": after_last_volume(ar1, lambda: ar1.beta(run.trial)),
        "ours ar1, standard error": after_last_volume(ar1, lambda: ar1.estimate(run.trial).error_V),
        "ours ar1, ridge": after_last_volume(ar1, lambda: ar1.ridge_betas([run.trial], 0.7)),
        "nilearn run_glm ols": lambda: run.run_glm("ols"),
        "nilearn run_glm ar1": lambda: run.run_glm("ar1"),
        "nilearn FirstLevelModel ar1": run.first_level_model,
        "floor ols": lambda: series_VT @ weights_T,
        "floor ar1": residuals,
    }

    def again(name: str) -> Callable[[], object]:
        for glm, state in states.items():
            glm.load_state(state)
        return work[name]

    return {name: lambda name=name: again(name) for name in work}


def measure(run: Run, rounds: int) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Wall and process milliseconds of every method in every round."""
    prepared = methods(run)
    wall_ms: dict[str, list[float]] = {name: [] for name in prepared}
    process_ms: dict[str, list[float]] = {name: [] for name in prepared}
    for i in range(rounds + 1):
        for name, prepare in prepared.items():
            work = prepare()
            wall, process = time.perf_counter(), time.process_time()
            work()
            wall, process = time.perf_counter() - wall, time.process_time() - process
            if i > 0:  # the first round compiles
                wall_ms[name].append(1e3 * wall)
                process_ms[name].append(1e3 * process)
    return {n: np.array(t) for n, t in wall_ms.items()}, {n: np.array(t) for n, t in process_ms.items()}


def parity(run: Run) -> dict[str, float]:
    """Largest difference to nilearn, in standard deviations of the betas."""
    found = {}
    for noise in ("ols", "ar1"):
        glm = run.glm(noise)
        glm.push(run.series_TV[-1], run.confounds_TC[-1])
        expected_V = run.run_glm(noise)
        found[noise] = float(np.abs(glm.beta(run.trial) - expected_V).max() / expected_V.std())
        if noise == "ols":
            row = glm.started.index(run.trial)
            found["ols, all trials"] = float(np.abs(glm.betas()[row] - expected_V).max() / expected_V.std())
    return found


PAIRS = [
    ("nilearn run_glm ols", "ours ols"),
    ("nilearn run_glm ar1", "ours ar1"),
    ("nilearn FirstLevelModel ar1", "ours ar1"),
    ("ours ols", "floor ols"),
    ("ours ar1", "floor ar1"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voxels", type=int, default=15000)
    parser.add_argument("--volumes", type=int, default=192)
    parser.add_argument(
        "--grid", type=int, nargs=3, default=(76, 90, 74), help="of the image that FirstLevelModel gets"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-history", action="store_true", help="print only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    run = Run(arguments.voxels, arguments.volumes, tuple(arguments.grid))
    with threadpool_limits(1):
        wall_ms, process_ms = measure(run, arguments.rounds)
    entry = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "versions": {"numpy": np.__version__, "nilearn": nilearn.__version__},
        "voxels": arguments.voxels,
        "grid": list(arguments.grid),
        "volumes": arguments.volumes,
        "trials": len(run.onsets_s),
        "rounds": arguments.rounds,
        "ms": {
            name: {
                "median": round(float(np.median(wall)), 3),
                "min": round(float(wall.min()), 3),
                "process": round(float(np.median(process_ms[name])), 3),
            }
            for name, wall in wall_ms.items()
        },
        "ratios": {f"{a} / {b}": round(float(np.median(wall_ms[a] / wall_ms[b])), 1) for a, b in PAIRS},
        "parity": parity(run),
    }
    print(
        f"{arguments.voxels} voxels, {arguments.volumes} volumes, {len(run.onsets_s)} trials; push and beta, one thread"
    )
    for name, ms in entry["ms"].items():
        print(f"{name:30} median {ms['median']:9.3f}  min {ms['min']:9.3f}  process {ms['process']:9.3f} ms")
    for name, ratio in entry["ratios"].items():
        print(f"{name:50} {ratio:7.1f}")
    print(
        "largest difference to nilearn, in sd of the betas:", entry["parity"], f"; load {entry['machine']['load']:.1f}"
    )
    if not arguments.no_history:
        history = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
        HISTORY.parent.mkdir(exist_ok=True)
        HISTORY.write_text(json.dumps([*history, entry], indent=1) + "\n")


if __name__ == "__main__":
    main()
