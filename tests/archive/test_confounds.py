"""The confounds' figures against their definitions, nilearn's reader, and the real trio run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from mindsight.archive import write_archive
from mindsight.archive.write.confounds import rms_displacement, standardised_dvars
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.motion.rigid import from_angles
from mindsight.scanner import open_run
from support.archive_example import MISSING, N_VOLUMES, TR_S, make_session

FUNC = "sub-S7f3a/ses-20261120/func"


@pytest.fixture(scope="module")
def func(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("confounds") / "archive"
    write_archive(make_session(), archive)
    (confounds,) = (archive / "derivatives").rglob("*run-1_desc-confounds_timeseries.tsv")
    return confounds.parent


def table(func: Path) -> pd.DataFrame:
    (path,) = func.glob("*run-1_desc-confounds_timeseries.tsv")
    return pd.read_csv(path, sep="\t", na_values="n/a")


def test_nilearn_finds_all_that_it_looks_for(func: Path) -> None:
    (path,) = func.glob("*run-1_desc-confounds_timeseries.tsv")
    image = path.with_name(path.name.replace("confounds_timeseries.tsv", "preproc_bold.nii.gz"))
    from nilearn.interfaces.fmriprep import load_confounds

    loaded, kept = load_confounds(
        str(image), ("motion", "high_pass", "global_signal", "scrub"), motion="full", scrub=0, demean=False
    )
    names = set(loaded.columns)
    assert {"rot_z_derivative1_power2", "trans_x_power2", "cosine00", "global_signal"} <= names
    # its own threshold on framewise displacement, which is n/a in the first volume and random up to 1 mm in the others
    assert kept is not None
    assert 0 < len(kept) < N_VOLUMES


def test_the_drifts_are_those_of_the_model(func: Path) -> None:
    confounds = table(func)
    cosines = confounds[[name for name in confounds if name.startswith("cosine")]].to_numpy()
    from nilearn.glm.first_level import make_first_level_design_matrix

    design = make_first_level_design_matrix(TR_S * np.arange(N_VOLUMES), high_pass=0.05)
    expected = design[[name for name in design if name.startswith("drift")]].to_numpy()
    assert expected.shape[1] > 1
    np.testing.assert_allclose(cosines, expected, atol=1e-8)


def test_what_is_not_known_is_not_made_up(func: Path) -> None:
    confounds = table(func)
    for name in ("dvars", "std_dvars", "global_signal", "rmsd"):
        assert confounds[name].iloc[list(MISSING)].isna().all()
    assert confounds["std_dvars"].notna().sum() == N_VOLUMES - len(MISSING) - 1  # and not of the first volume


def test_the_betas_variance_is_beside_them(func: Path) -> None:
    (effect,), (variance,) = (
        list(func.glob(f"*run-1_desc-final_stat-{kind}_statmap.nii.gz")) for kind in ("effect", "variance")
    )
    assert nib.load(effect).shape == nib.load(variance).shape
    inside = np.asarray(nib.load(variance).dataobj).reshape(-1, 3).max(axis=0)
    np.testing.assert_allclose(inside, [0.25, 1.0, 2.25])
    assert not list(func.glob("*desc-fast_stat-variance*"))


def test_rmsd_is_the_root_mean_square_over_a_sphere() -> None:
    rng = np.random.default_rng(0)
    motion_T6 = np.concatenate([rng.normal(0, 2, (5, 3)), rng.normal(0, 0.03, (5, 3))], axis=1)
    motion_T6[3] = np.nan
    centre_mm = np.array([10.0, -20.0, 30.0])
    directions = rng.normal(size=(400_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = centre_mm + 80.0 * directions * rng.random((400_000, 1)) ** (1 / 3)
    rmsd_T = rms_displacement(motion_T6, centre_mm)
    # where a point of the head was, and where it is: a motion takes the reference to the volume
    in_reference = (points - motion_T6[1, :3]) @ from_angles(motion_T6[1, 3:])
    now = in_reference @ from_angles(motion_T6[2, 3:]).T + motion_T6[2, :3]
    expected = np.sqrt(((now - points) ** 2).sum(axis=1).mean())
    assert rmsd_T[2] == pytest.approx(expected, rel=2e-3)
    assert np.isnan(rmsd_T[[0, 3, 4]]).all()


def test_std_dvars_is_1_in_a_quiet_real_run_and_more_where_the_signal_jumps(shared: Path) -> None:
    run = open_run(shared / "data" / "trio_run155")
    volumes = [volume.data.astype(np.float32) for volume in run.volumes()][:60]
    mask_XYZ = brain_mask(volumes[30])
    series_TV = np.stack([data[mask_XYZ] for data in volumes[5:]])
    dvars_T, quiet_T = standardised_dvars(series_TV)
    assert np.isnan(quiet_T[0])
    assert 0.7 < np.median(quiet_T[1:]) < 1.2
    assert dvars_T[7] == pytest.approx(np.sqrt(np.mean((series_TV[7] - series_TV[6]) ** 2)), rel=1e-5)
    series_TV[20] *= 1.1
    _, jumping_T = standardised_dvars(series_TV)
    assert (jumping_T[[20, 21]] > 1.5).all()
    assert (jumping_T[1:] > 1.5).sum() == 2


def test_bright_first_volumes_are_not_steady(tmp_path: Path) -> None:
    session = make_session()
    runs = list(session.runs)
    series_TV = runs[0].series_TV.copy()
    series_TV[:4] *= np.array([1.5, 1.3, 1.2, 1.1], np.float32)[:, None]
    runs[0] = replace(runs[0], series_TV=series_TV)
    write_archive(replace(session, runs=runs), tmp_path / "archive")
    (path,) = (tmp_path / "archive").rglob("*run-1_desc-confounds_timeseries.tsv")
    confounds = pd.read_csv(path, sep="\t", na_values="n/a")
    outliers = [name for name in confounds if name.startswith("non_steady_state_outlier")]
    assert outliers == [f"non_steady_state_outlier{k:02d}" for k in range(4)]
