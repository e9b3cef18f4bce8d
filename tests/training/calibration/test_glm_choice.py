"""What calibration switches on, and what it leaves off, on runs that are made so that the right choice is known."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.glm import Event
from mindsight.glm.hrf import LIBRARY, kernel, regressors
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool
from mindsight.scanner import open_run
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.command import main
from training.calibration.glm_choice import VoxelRun, choose, noise_pool, responses, significantly_best, slice_lags
from training.calibration.summary import summary

TR_S = 1.5
N_FRAMES = 130
N_VOXELS = 60
ONSETS_S = 6.0 + 7.0 * np.arange(24)
OPTIONS = IngestOptions(normalise="run", noise="ols")
POOL = CandidatePool(("a", "b", "c"), np.eye(3, dtype=np.float32))


def simulated(
    seed: int,
    hrf_V: NDArray[np.int64],
    common: float,
    response: float = 6.0,
    n_runs: int = 6,
    lag_V: NDArray[np.float32] | None = None,
) -> list[VoxelRun]:
    """Runs of three kinds of trials; the second half of the voxels answers to none, and all share two
    courses of noise, in every run otherwise. Voxels are measured ``lag_V`` later than the frames."""
    lag_V = np.zeros(N_VOXELS, np.float32) if lag_V is None else lag_V
    rng = np.random.default_rng(seed)
    patterns_KV = rng.normal(size=(3, N_VOXELS)) + 1.0
    patterns_KV[:, N_VOXELS // 2 :] = 0.0
    shapes_STK = {
        (shape, lag): regressors(
            np.cumsum(kernel(LIBRARY[shape], TR_S)), ONSETS_S - lag, np.full(24, 2.0), N_FRAMES, TR_S
        )
        for shape, lag in set(zip(hrf_V.tolist(), lag_V.tolist(), strict=True))
    }
    events = tuple(Event(float(onset), 2.0, number + 1) for number, onset in enumerate(ONSETS_S))
    runs = []
    for _ in range(n_runs):
        kinds = rng.permutation(np.arange(24) % 3)
        clean_TV = np.stack(
            [shapes_STK[int(hrf_V[v]), float(lag_V[v])] @ patterns_KV[kinds, v] for v in range(N_VOXELS)], axis=1
        )
        noise_TV = rng.normal(size=(N_FRAMES, N_VOXELS))
        noise_TV += common * rng.normal(size=(N_FRAMES, 2)) @ rng.normal(size=(2, N_VOXELS))
        series_TV = (500.0 + noise_TV + response * clean_TV).astype(np.float32)
        no = np.zeros(N_FRAMES, np.bool_)
        shown = {number + 1: int(kind) for number, kind in enumerate(kinds)}
        runs.append(VoxelRun(series_TV, np.zeros((N_FRAMES, 0)), no, events, shown, TR_S))
    return runs


def test_an_option_needs_a_clear_gain_in_many_runs() -> None:
    rng = np.random.default_rng(0)
    clear_RO = np.stack([np.zeros(6), 1.0 + 0.1 * rng.normal(size=6), 0.5 + 0.1 * rng.normal(size=6)], axis=1)
    assert significantly_best(clear_RO) == 1
    assert significantly_best(clear_RO[:, [0, 2]]) == 1
    assert significantly_best(clear_RO * [1, -1, -1]) == 0
    assert significantly_best(np.array([[0.0, 1.0], [0.0, 1.4]])) == 0
    chances = [significantly_best(np.column_stack([np.zeros(6), rng.normal(size=(6, 4))])) > 0 for _ in range(2000)]
    assert np.mean(chances) < 0.08


def test_responses_and_the_noise_pool_are_found_without_labels() -> None:
    hrf_V = np.where(np.arange(N_VOXELS) % 2 == 0, 2, 16)
    runs = simulated(0, hrf_V, common=0.0)
    found_V, pool_V = responses(runs, OPTIONS), noise_pool(runs, OPTIONS)
    assert found_V.dtype == np.uint8
    answering = np.arange(N_VOXELS) < N_VOXELS // 2
    peaks_s = np.array([shape.peak_s for shape in LIBRARY])
    assert np.mean(np.abs(peaks_s[found_V] - peaks_s[hrf_V])[answering] <= 1.0) > 0.8
    assert pool_V.sum() == N_VOXELS // 2
    # Voxels whose answers to the three kinds cancel look silent to one regressor for all.
    assert np.mean(pool_V[~answering]) > 0.65


@pytest.mark.slow
def test_what_is_not_in_the_data_stays_off() -> None:
    runs = simulated(1, np.full(N_VOXELS, 9), common=0.0, response=2.0)
    chosen = choose(runs, POOL, OPTIONS)
    assert chosen.options.n_noise_components == 0
    assert chosen.noise_pool_V is None


@pytest.mark.slow
def test_common_noise_switches_components_on() -> None:
    runs = simulated(2, np.full(N_VOXELS, 9), common=5.0, response=2.0)
    chosen = choose(runs, POOL, OPTIONS)
    assert chosen.options.n_noise_components > 0
    assert chosen.noise_pool_V is not None
    assert chosen.noise_pool_V.shape == (N_VOXELS,)


@pytest.mark.slow
def test_responses_that_differ_switch_the_library_on() -> None:
    hrf_V = np.where(np.arange(N_VOXELS) % 2 == 0, 0, 18)
    chosen = choose(simulated(3, hrf_V, common=0.0, response=1.0, n_runs=12), POOL, OPTIONS)
    assert chosen.hrf_V is not None


@pytest.mark.slow
def test_slices_at_times_of_their_own_are_modelled_where_it_helps() -> None:
    lag_V = np.where(np.arange(N_VOXELS) % 2 == 0, -1.5, 1.5).astype(np.float32)
    shape_V = np.full(N_VOXELS, 6)  # near the usual response
    late = choose(simulated(4, shape_V, common=0.0, response=0.4, n_runs=20, lag_V=lag_V), POOL, OPTIONS, lag_V)
    assert late.lag_V is lag_V
    at_once = choose(simulated(4, shape_V, common=0.0, response=0.4, n_runs=20), POOL, OPTIONS, lag_V)
    assert at_once.lag_V is None


def test_lags_are_the_slices_own_from_the_middle(shared: Path) -> None:
    trio = next(open_run(shared / "data" / "trio_run155").volumes())
    space = SubjectSpace(trio, np.ones(trio.shape, np.bool_))
    lag_V = slice_lags(space)
    assert lag_V is not None
    lag_Z = lag_V.reshape(trio.shape)[0, 0]
    times_s = trio.slice_times_s
    assert times_s is not None
    assert np.abs(lag_Z - (times_s - times_s.mean())).max() <= trio.tr_s / 16 + 1e-6
    assert len(np.unique(lag_Z)) <= 9
    assert slice_lags(SubjectSpace(replace(trio, slice_times_s=None), space.mask_XYZ)) is None
    assert slice_lags(SubjectSpace(replace(trio, slice_times_s=np.full(36, 0.5)), space.mask_XYZ)) is None


@pytest.fixture(scope="module")
def real_runs(shared: Path) -> list[Path]:
    return [shared / "data" / "haxby2001" / f"run-{number:03d}" for number in (1, 2)]


@pytest.fixture(scope="module")
def commanded(real_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str]:
    """The bundle that the command makes with options, and what it says."""
    out, printed = tmp_path_factory.mktemp("commanded") / "bundle", io.StringIO()
    asked = ["--fixed-basis", "--fast", "4v", "--revised", "20s", "--final", "31.5 s"]
    with contextlib.redirect_stdout(printed):
        assert main([*map(str, real_runs), *asked, "--out", str(out)]) == 0
    return Bundle.load(out), printed.getvalue()


@pytest.mark.slow
def test_a_bundle_remembers_when_results_are_due_and_what_the_signal_was_like(
    real_runs: list[Path], commanded: tuple[Bundle, str]
) -> None:
    bundle, _ = commanded
    tr_s = bundle.space.reference.tr_s
    assert bundle.options.waits_s(tr_s) == {"fast": 4 * tr_s, "revised": 20.0, "final": 31.5}
    assert bundle.baseline is not None
    voxels = [
        np.stack([volume.data[bundle.space.mask_XYZ] for volume in open_run(run).volumes()]).astype(float)
        for run in real_runs
    ]
    signal = np.median([series_TV.mean() for series_TV in voxels])
    tsnr = np.median([np.median(series_TV.mean(0) / series_TV.std(0, ddof=1)) for series_TV in voxels])
    assert bundle.baseline.mean_signal == pytest.approx(signal, rel=1e-4)
    assert bundle.baseline.tsnr == pytest.approx(tsnr, rel=0.02)  # censored volumes are left out of it


def test_a_wait_that_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run-1", "run-2", "--fast", "soon", "--out", str(tmp_path / "bundle")]) == 1
    assert "expected --fast like 7.5s or 5v, got 'soon'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bundle_remembers_a_fixed_basis(commanded: tuple[Bundle, str], tmp_path: Path) -> None:
    bundle, printed = commanded
    assert bundle.options.mode == "fixed"
    assert summary(bundle) in printed
    extras = replace(
        bundle,
        options=replace(bundle.options, ridge_fraction=0.5, n_noise_components=2, event_duration_s=1.0),
        space=replace(
            bundle.space,
            hrf_V=np.zeros(bundle.space.n_voxels, np.uint8),
            lag_V=np.full(bundle.space.n_voxels, 0.5, np.float32),
        ),
    )
    again = replace(extras, folder=None).save(tmp_path / "again")
    assert again.space.lag_V is not None
    assert np.array_equal(again.space.lag_V, extras.space.lag_V)
    for part in (
        "ridge with fraction 0.5",
        "2 noise components",
        "modelled with 1 s",
        "a response per voxel",
        "own times",
    ):
        assert part in summary(extras)
