"""The streaming GLM against nilearn refits of the same data, in the same run, with the floor beside it.

    python benchmarks/bench_glm.py [--voxels 15000] [--volumes 192] [--rounds 9] [--whole] [--no-history]

Work is one more volume and one trial's beta from all of them (or what the row says), one thread each. Floors: for least
squares one pass of BLAS over the series (every value must be read once), for AR(1) the two products that give the
residuals.

Parity is the largest difference to nilearn's ``run_glm`` on the data so far, in standard deviations of its betas, after
every volume from the first beta of the run on, and the number of voxels whose AR(1) coefficient differs: on 2,000
voxels, and with ``--whole`` on all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import nibabel
import numpy as np
import pandas as pd
import report
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mindsight.glm import Event, StreamingGLM
from mindsight.glm.estimators import Basis
from mindsight.glm.noise import AR_BINS, Residuals

TR_S = 1.5
SOA_S = 4.0
FAST_S = 7.5
PARITY_VOXELS = 2000
RIDGE_FRACTION = 0.7


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
        self.trial = self.newest_trial(n_volumes)
        self.design = self.make_design(n_volumes, self.trial)
        mask_XYZ = np.zeros(grid, np.uint8)
        mask_XYZ.reshape(-1)[:n_voxels] = 1
        data_XYZT = np.zeros((*grid, n_volumes), np.float32)
        data_XYZT[mask_XYZ > 0] = self.series_TV.T
        self.mask = nibabel.Nifti1Image(mask_XYZ, np.eye(4))
        self.image = nibabel.Nifti1Image(data_XYZT, np.eye(4))

    def newest_trial(self, n: int) -> int:
        """The last trial that has a beta after ``n`` volumes."""
        return int(np.flatnonzero(self.onsets_s <= n * TR_S - FAST_S)[-1])

    def glm(self, noise: str, n: int, n_planned: int | None = None) -> StreamingGLM:
        """After the first ``n`` volumes."""
        glm = StreamingGLM(self.series_TV.shape[1], TR_S, noise=noise, n_confounds=6, n_planned=n_planned)
        for trial, onset_s in enumerate(self.onsets_s):
            glm.add_event(Event(float(onset_s), 3.0, trial))
        for i in range(n):
            glm.push(self.series_TV[i], self.confounds_TC[i])
        return glm

    def make_design(self, n: int, trial: int) -> pd.DataFrame:
        started = self.onsets_s[self.onsets_s <= (n - 1) * TR_S]
        events = pd.DataFrame({"onset": started, "duration": 3.0, "trial_type": "reference"})
        events.loc[trial, "trial_type"] = "probe"
        return make_first_level_design_matrix(TR_S * np.arange(n), events, add_regs=self.confounds_TC[:n])

    def run_glm(self, noise: str, n: int, trial: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nilearn's betas, and the AR(1) coefficients that it took."""
        design = self.make_design(n, trial)
        labels, results = run_glm(self.series_TV[:n], design.to_numpy(), noise_model=noise)
        beta_V = np.empty(self.series_TV.shape[1])
        for label, result in results.items():
            beta_V[labels == label] = result.theta[list(design.columns).index("probe")]
        return beta_V, labels.astype(np.float64)

    def first_level_model(self) -> None:
        model = FirstLevelModel(t_r=TR_S, mask_img=self.mask, noise_model="ar1", high_pass=0.01, reports=False)
        events = pd.DataFrame({"onset": self.onsets_s, "duration": 3.0, "trial_type": "reference"})
        events.loc[self.trial, "trial_type"] = "probe"
        confounds = pd.DataFrame(self.confounds_TC, columns=[f"motion{i}" for i in range(6)])
        model.fit(self.image, events=events, confounds=confounds)
        model.compute_contrast("probe", output_type="effect_size")


def methods(run: Run) -> tuple[dict[str, Callable[[], object]], Callable[[str], None]]:
    """Each method's work after the last volume, and what puts everything back before it."""
    n, trial = len(run.series_TV), run.trial
    ols, ar1, fixed = run.glm("ols", n - 1), run.glm("ar1", n - 1), run.glm("ar1", n - 1, n_planned=n)
    states = {glm: glm.state() for glm in (ols, ar1, fixed)}

    def after_last_volume(glm: StreamingGLM, ask: Callable[[], object]) -> Callable[[], object]:
        def work() -> object:
            glm.push(run.series_TV[-1], run.confounds_TC[-1])
            return ask()

        return work

    def back(_: str) -> None:
        for glm, state in states.items():
            glm.load_state(state)

    series_VT = np.ascontiguousarray(run.series_TV.T)
    weights_T = np.ones(n, np.float32)
    basis_TR = np.linalg.qr(run.design.to_numpy())[0].astype(np.float32)
    work = {
        "ours ols": after_last_volume(ols, lambda: ols.beta(trial)),
        "ours ols, all trials": after_last_volume(ols, ols.betas),
        "ours ols, with standard error": after_last_volume(ols, lambda: ols.estimate(trial)),
        "ours ar1": after_last_volume(ar1, lambda: ar1.beta(trial)),
        "ours ar1, with standard error": after_last_volume(ar1, lambda: ar1.estimate(trial)),
        "ours ar1, all final betas with errors": after_last_volume(ar1, lambda: ar1.estimates(ar1.started)),
        "ours ar1, fixed basis": after_last_volume(fixed, lambda: fixed.beta(trial)),
        "ours ar1, ridge": after_last_volume(ar1, lambda: ar1.ridge_betas([trial], RIDGE_FRACTION)),
        "nilearn run_glm ols": lambda: run.run_glm("ols", n, trial),
        "nilearn run_glm ar1": lambda: run.run_glm("ar1", n, trial),
        "nilearn FirstLevelModel ar1": run.first_level_model,
        "floor ols": lambda: series_VT @ weights_T,
        "floor ar1": lambda: (series_VT @ basis_TR) @ basis_TR.T,
    }
    return work, back


OURS = {
    "nilearn run_glm ols": "ours ols",
    "nilearn run_glm ar1": "ours ar1",
    "nilearn FirstLevelModel ar1": "ours ar1",
}
FLOOR = {
    "ours ols": "floor ols",
    "ours ols, with standard error": "floor ols",
    "ours ar1": "floor ar1",
    "ours ar1, with standard error": "floor ar1",
    "ours ar1, fixed basis": "floor ar1",
    "ours ar1, ridge": "floor ar1",
}


def parity(run: Run) -> dict[str, float]:
    """Largest difference to nilearn over all volumes, in sd of the betas; how many AR(1) coefficients differ."""
    first = int(np.ceil((run.onsets_s[0] + FAST_S) / TR_S))
    n_volumes, n_voxels = run.series_TV.shape
    found: dict[str, float] = {"ols": 0.0, "ols, all trials": 0.0, "ar1": 0.0, "ar1 coefficients that differ": 0}
    found["ar1, all final betas against one by one"] = together(run)
    ols, ar1 = run.glm("ols", first - 1), run.glm("ar1", first - 1)
    series_VT = np.ascontiguousarray(run.series_TV.T)
    for n in range(first, n_volumes + 1):
        trial = run.newest_trial(n)
        for noise, glm in (("ols", ols), ("ar1", ar1)):
            glm.push(run.series_TV[n - 1], run.confounds_TC[n - 1])
            expected_V, rho_V = run.run_glm(noise, n, trial)
            apart = np.abs(glm.beta(trial) - expected_V).max() / expected_V.std()
            found[noise] = max(found[noise], float(apart))
            if noise == "ols":
                apart = np.abs(glm.betas()[glm.started.index(trial)] - expected_V).max() / expected_V.std()
                found["ols, all trials"] = max(found["ols, all trials"], float(apart))
            else:
                basis = Basis.of(run.make_design(n, trial).to_numpy())
                if n > basis.q_TR.shape[1]:  # else there are no residuals, and any coefficient gives the same beta
                    ours_V = Residuals(series_VT - series_VT[:, :1], basis.q_TR).ar_hundredths()
                    found["ar1 coefficients that differ"] += int((ours_V != np.rint(AR_BINS * rho_V)).sum())
    return found | {"volumes": n_volumes - first + 1, "voxels": n_voxels}


def together(run: Run) -> float:
    """Largest difference between all final betas at once and each by itself, in sd of the betas."""
    glm = run.glm("ar1", len(run.series_TV))
    apart = 0.0
    for trial, (beta_V, _) in zip(glm.started, glm.estimates(glm.started), strict=True):
        alone_V = glm.beta(trial)
        apart = max(apart, float(np.abs(beta_V - alone_V).max() / alone_V.std()))
    return apart


def main() -> None:
    parser = report.parser(__doc__, whole="parity of all voxels (minutes)")
    parser.add_argument("--voxels", type=int, default=15000)
    parser.add_argument("--volumes", type=int, default=192)
    parser.add_argument(
        "--grid", type=int, nargs=3, default=(76, 90, 74), help="of the image that FirstLevelModel gets"
    )
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    began = report.machine()
    run = Run(given.voxels, given.volumes, tuple(given.grid))
    with threadpool_limits(1):
        work, back = methods(run)
        rows = report.compared(report.in_turn(work, given.rounds, back), ours=OURS, floor=FLOOR)
        equal = parity(run if given.whole else Run(PARITY_VOXELS, given.volumes, tuple(given.grid)))
    title = f"{given.voxels} voxels, {given.volumes} volumes, {len(run.onsets_s)} trials; push and beta, one thread"
    report.print_table(title, rows)
    print(
        f"largest difference to nilearn, in sd of the betas, over {equal['volumes']} volumes, {equal['voxels']} voxels:"
    )
    print("; ".join(f"{name} {value:.2g}" for name, value in equal.items() if name not in ("volumes", "voxels")))
    report.finish(
        "glm",
        given,
        began,
        ["numpy", "numba", "nilearn"],
        voxels=given.voxels,
        grid=list(given.grid),
        volumes=given.volumes,
        trials=len(run.onsets_s),
        rounds=given.rounds,
        ms=rows,
        parity=equal,
    )


if __name__ == "__main__":
    main()
