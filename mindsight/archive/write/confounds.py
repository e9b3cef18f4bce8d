"""A run's confounds under fMRIPrep's names, so that its readers read them, and columns that fMRIPrep does not have.

Knows nothing of raw volumes, betas or results. T volumes, V voxels of the mask.

References: Power et al., NeuroImage 59(3), 2012 (framewise displacement, DVARS); T. Nichols, "Notes on creating a
standardized version of DVARS", 2013, arXiv:1704.01469 (std_dvars); M. Jenkinson, "Measuring transformation error by RMS
deviation", FMRIB TR99MJ1, 1999 (rmsd).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.archive.names import Names
from mindsight.archive.records import ArchivedRun, ArchivedSession
from mindsight.archive.write.tables import write_json, write_tsv
from mindsight.errors import BadRequest
from mindsight.glm.design import cosine_drifts
from mindsight.preprocessing.motion.rigid import from_angles

_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_RMSD_RADIUS_MM = 80.0
_STEADY_VOLUMES = 50  # at the beginning, among which non-steady-state volumes are searched
_STEADY_SCORE = 3.5

_DESCRIBED = {
    **{
        name: {
            "Description": f"Translation along {name[-1]}, rigid realignment about the scanner's origin",
            "Units": "mm",
        }
        for name in _MOTION[:3]
    },
    **{name: {"Description": f"Rotation about {name[-1]}, rigid realignment", "Units": "rad"} for name in _MOTION[3:]},
    **{f"{name}_derivative1": {"Description": f"Change of {name} since the volume before"} for name in _MOTION},
    **{f"{name}_power2": {"Description": f"Square of {name}"} for name in _MOTION},
    **{f"{name}_derivative1_power2": {"Description": f"Square of {name}_derivative1"} for name in _MOTION},
    "framewise_displacement": {
        "Description": "Power et al. 2012, 50 mm sphere, of the motion about the head's centre",
        "Units": "mm",
    },
    "rmsd": {
        "Description": "Root mean square displacement since the volume before, Jenkinson 1999, 80 mm sphere about the"
        " middle of the decoder's voxels",
        "Units": "mm",
    },
    "dvars": {
        "Description": "Change of the decoder's voxels since the volume before, root mean square (Power et al. 2012)",
        "Units": "arbitrary, as the voxels",
    },
    "std_dvars": {"Description": "dvars over what it would be without artefacts (Nichols 2013)"},
    "dvars_percent": {
        "Description": "The same change in percent of the mean signal so far, as it was seen live",
        "Units": "percent",
    },
    "global_signal": {"Description": "Mean of the decoder's voxels", "Units": "arbitrary, as the voxels"},
    "cosine": {"Description": "cosineXX: a drift below the session's high-pass cut, as in its model of the whole run"},
    "non_steady_state_outlier": {
        "Description": "non_steady_state_outlierXX: 1 for one of the run's first volumes, where they are brighter than"
        " the others"
    },
    "motion_outlier": {
        "Description": "motion_outlierXX: 1 for one volume that was left out of the betas: too much motion, a spike, no"
        " pose, or missing"
    },
    "missing_volume": {"Description": "1 if the volume never arrived"},
    "residual": {"Description": "Share of the volume's variance that the reference leaves unexplained, 0 to 1"},
    "outlier_slices": {"Description": "How many slices of the volume did not fit the others"},
}


def write_confounds(
    root: Path, names: Names, run: ArchivedRun, session: ArchivedSession, missing: Sequence[int]
) -> None:
    """Raises BadRequest if a series is not as long as the run."""
    n = run.n_volumes
    expected = {
        "motion_T6": (n, 6),
        "fd_mm_T": (n,),
        "dvars_percent_T": (n,),
        "censored_T": (n,),
        "residual_T": (n,),
        "outlier_slices_T": (n,),
    }
    for name, shape in expected.items():
        array = getattr(run, name)
        if array is not None and array.shape != shape:
            raise BadRequest(
                f"run {run.run}: expected {name} of shape {shape}, got {array.shape}", code="archive.shape"
            )
    columns = _motion_columns(run.motion_T6)
    unknown_T = np.full(n, np.nan)
    columns["framewise_displacement"] = run.fd_mm_T
    columns["rmsd"] = unknown_T if session.mask_XYZ is None else rms_displacement(run.motion_T6, _middle(session))
    columns |= _signal_columns(run, missing)
    columns["dvars_percent"] = run.dvars_percent_T
    columns["residual"] = unknown_T if run.residual_T is None else run.residual_T
    columns["outlier_slices"] = unknown_T if run.outlier_slices_T is None else run.outlier_slices_T
    if run.high_pass_hz is not None and n >= 2:
        for k, cosine_T in enumerate(cosine_drifts(n, run.tr_s, run.high_pass_hz).T[:-1]):
            columns[f"cosine{k:02d}"] = cosine_T
    for name, outliers in {
        "non_steady_state_outlier": range(_not_steady(columns["global_signal"])),
        "motion_outlier": np.flatnonzero(run.censored_T),
    }.items():
        columns |= {f"{name}{k:02d}": np.arange(n) == outlier for k, outlier in enumerate(outliers)}
    columns["missing_volume"] = np.isin(np.arange(n), missing)
    path = root / names.run(run.task, run.run, "desc-confounds_timeseries.tsv")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tsv(path, list(columns), zip(*columns.values(), strict=True))
    write_json(path.with_suffix(".json"), _DESCRIBED)


def _motion_columns(motion_T6: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    columns: dict[str, NDArray[np.generic]] = {}
    for name, column_T in zip(_MOTION, motion_T6.T, strict=True):
        change_T = np.diff(column_T, prepend=np.nan)
        columns |= {
            name: column_T,
            f"{name}_derivative1": change_T,
            f"{name}_power2": column_T**2,
            f"{name}_derivative1_power2": change_T**2,
        }
    return columns


def _signal_columns(run: ArchivedRun, missing: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """Columns of the realigned series; NaN if it was not kept and for missing volumes."""
    columns = {name: np.full(run.n_volumes, np.nan) for name in ("dvars", "std_dvars", "global_signal")}
    there = np.setdiff1d(np.arange(run.n_volumes), missing)
    if run.series_TV is not None and len(run.series_TV) == run.n_volumes and there.size > 2:
        columns["global_signal"][there] = run.series_TV[there].mean(axis=1, dtype=np.float64)
        dvars_T, std_dvars_T = standardised_dvars(run.series_TV[there])
        columns["dvars"][there], columns["std_dvars"][there] = dvars_T, std_dvars_T
    return dict(columns)


def standardised_dvars(series_TV: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(T,) DVARS in the voxels' units, and over its expected size; both NaN for the first volume.

    Expected from each voxel's interquartile range and autocorrelation (Nichols 2013); voxels that never change are left
    out.
    """
    y_TV = series_TV[:, series_TV.std(axis=0) > 0.0].astype(np.float64)
    if y_TV.shape[1] == 0:
        nothing_T = np.full(len(series_TV), np.nan)
        return nothing_T, nothing_T
    upper_V, lower_V = np.percentile(y_TV, [75, 25], axis=0, method="lower")
    y_TV -= y_TV.mean(axis=0)
    ar1_V = (y_TV[1:] * y_TV[:-1]).sum(axis=0) / (y_TV**2).sum(axis=0)
    expected = float(np.mean(np.sqrt(2.0 * (1.0 - ar1_V)) * (upper_V - lower_V) / 1.349))
    dvars_T = np.append(np.nan, np.sqrt((np.diff(y_TV, axis=0) ** 2).mean(axis=1)))
    return dvars_T, dvars_T / expected if expected > 0.0 else np.full(len(dvars_T), np.nan)


def rms_displacement(motion_T6: NDArray[np.float64], centre_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) mm since the volume before, root mean square over a sphere about ``centre_mm``; NaN if unknown."""
    rmsd_T = np.full(len(motion_T6), np.nan)
    poses = [(from_angles(motion_6[3:]), motion_6[:3]) for motion_6 in motion_T6]
    for t in range(1, len(poses)):
        (before, before_mm), (now, now_mm) = poses[t - 1], poses[t]
        turn = now @ before.T
        shift_mm = turn @ (centre_mm - before_mm) + now_mm - centre_mm
        rmsd_T[t] = np.sqrt(_RMSD_RADIUS_MM**2 / 5.0 * ((turn - np.eye(3)) ** 2).sum() + shift_mm @ shift_mm)
    return rmsd_T


def _middle(session: ArchivedSession) -> NDArray[np.float64]:
    assert session.mask_XYZ is not None
    assert session.affine is not None
    middle: NDArray[np.float64] = session.affine[:3, :3] @ np.argwhere(session.mask_XYZ).mean(axis=0)
    return middle + session.affine[:3, 3]


def _not_steady(global_signal_T: NDArray[np.generic]) -> int:
    """Number of volumes at the run's beginning that are outliers by the modified z-score, the rule of fMRIPrep."""
    first_T = global_signal_T[:_STEADY_VOLUMES].astype(np.float64)
    away_T = np.abs(first_T - np.nanmedian(first_T)) if np.isfinite(first_T).any() else np.zeros(0)
    usual = float(np.nanmedian(away_T)) if away_T.size else 0.0
    bright_T = (0.6745 * away_T > _STEADY_SCORE * usual) & (usual > 0.0)
    steady = np.flatnonzero(~bright_T & np.isfinite(away_T))
    leading = np.flatnonzero(bright_T[: steady[0]]) if steady.size else np.zeros(0, np.intp)
    return int(leading[-1]) + 1 if leading.size else 0
