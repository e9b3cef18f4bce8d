"""One volume of a run: whether it belongs there, its voxels in the subject's space, its motion and its quality.

Knows nothing of betas. V voxels of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.ingest.given_motion import GivenMotion
from mindsight.ingest.outputs import CensoredBy, VolumeReport
from mindsight.ingest.run import Run
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.prospective import followed_motion, motion_about
from mindsight.preprocessing.motion.realign import MIN_SLICES
from mindsight.preprocessing.quality.rules import Alert, VolumeFigures
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.preprocessing.registration.session_reference import SessionReference
from mindsight.volume import Volume
from mindsight.volume_bounds import same_tr

Float64Array = NDArray[np.float64]
Triple = tuple[float, float, float]
Grid = tuple[tuple[int, int, int], Float64Array]
"""Shape and affine of a run's first volume."""


def check_volume(
    volume: Volume, space: SubjectSpace, run_grid: Grid | None, tr_s: float, given: GivenMotion
) -> Float64Array:
    """(4, 4) how far the scanner followed the head, see ``followed_motion``.

    A run has one TR and one grid, which may follow the head. Volumes that are not realigned are on the reference's grid
    and finite in the mask. Raises BadVolume (``volume.tr_mismatch``, ``volume.shape_mismatch``, ``volume.motion``,
    ``volume.not_finite``).
    """
    if not same_tr(volume.tr_s, tr_s):
        raise BadVolume(
            f"expected volumes with the run's TR of {tr_s:g} s, got one that states {volume.tr_s:g} s: end the run,"
            " start another",
            code="volume.tr_mismatch",
        )
    as_it_is = bool(given) or min(space.reference.shape) < MIN_SLICES
    shape, affine = run_grid or (space.reference.shape if as_it_is else volume.shape, volume.affine)
    stated = followed_motion(affine, volume.affine, shape) if volume.shape == shape else None
    if stated is None:
        other = "" if volume.shape != shape else " in another position"
        raise BadVolume(
            f"expected a volume of shape {shape} as before, got {volume.shape}{other}: end the run, start another",
            code="volume.shape_mismatch",
            expected="x".join(map(str, shape)),
            got="x".join(map(str, volume.shape)),
        )
    given.check(volume)
    if as_it_is and not np.isfinite(volume.data[space.mask_XYZ]).all():
        raise BadVolume("expected finite numbers, got NaN or infinity in the mask", code="volume.not_finite")
    return stated


@dataclass(frozen=True, eq=False)
class MeasuredVolume:
    """A volume as the GLM takes it, with its report.

    confounds_C : (C,) motion parameters that are regressors
    registration : the run's, if this volume determined it
    """

    voxels_V: NDArray[np.float32]
    confounds_C: Float64Array
    report: VolumeReport
    registration: RegistrationReport | None


@dataclass(frozen=True, eq=False)
class _Posed:
    """A volume's voxels and motion. ``estimated``: motion was, and what follows ``converged`` is known."""

    voxels_V: NDArray[np.float32]
    motion_6: Float64Array
    estimated: bool = False
    converged: bool = True
    translation_mm: Triple | None = None
    rotation_rad: Triple | None = None
    displacement_mm: float | None = None
    residual: float | None = None
    outlier_slices: tuple[int, ...] = ()
    registration: RegistrationReport | None = None


def measure_volume(
    run: Run,
    volume: Volume,
    stated: Float64Array,
    space: SubjectSpace,
    reference: SessionReference | None,
    given: GivenMotion,
    fd_threshold_mm: float,
) -> MeasuredVolume:
    """The next volume of a run.

    volume : on the grid of the run's first
    stated : how far the scanner followed the head since then
    reference : registers the volume; None: it is taken as it is
    fd_threshold_mm : framewise displacement above which it is censored
    """
    posed = _as_it_is(volume, stated, space, given) if reference is None else _registered(volume, stated, reference)
    spike = run.detect_spike(posed.voxels_V, posed.converged)
    quality = run.measure_quality(posed.voxels_V, posed.motion_6, spike or not posed.converged)
    is_stated = not given and bool(quality.fd_mm)  # by the scanner that follows the head
    fd_mm = quality.fd_mm if posed.estimated or given.order is not None or is_stated else None
    censored_by = _censored_by(posed.converged, fd_mm, fd_threshold_mm, spike)
    figures = VolumeFigures(
        fd_mm=fd_mm,
        dvars_percent=quality.dvars_percent,
        tsnr=quality.tsnr,
        displacement_mm=posed.displacement_mm,
        mean_signal=float(posed.voxels_V.mean()),
        residual=posed.residual,
        outlier_share=len(posed.outlier_slices) / volume.shape[2],
        unplaced=not posed.converged,
        spike=spike,
        censored=censored_by is not None,
        trials=run.trials_at(volume.index),
    )
    report = _report(posed, figures, censored_by, run.update_alerts(figures))
    confounds_6 = given.raw_6(volume) if given else posed.motion_6
    return MeasuredVolume(posed.voxels_V, confounds_6[: run.n_confounds], report, posed.registration)


def _censored_by(posed: bool, fd_mm: float | None, fd_threshold_mm: float, spike: bool) -> CensoredBy | None:
    """The first reason that applies."""
    if not posed:
        return "pose"
    if fd_mm is not None and not fd_mm <= fd_threshold_mm:
        return "motion"
    return "spike" if spike else None


def _report(posed: _Posed, figures: VolumeFigures, censored_by: CensoredBy | None, alerts: list[Alert]) -> VolumeReport:
    return VolumeReport(
        translation_mm=posed.translation_mm,
        rotation_rad=posed.rotation_rad,
        fd_mm=figures.fd_mm,
        dvars_percent=figures.dvars_percent,
        tsnr=figures.tsnr,
        aligned=posed.converged,
        censored_by=censored_by,
        residual=posed.residual,
        outlier_slices=posed.outlier_slices,
        alerts=(*([] if posed.registration is None else posed.registration.alerts()), *alerts),
    )


def _registered(volume: Volume, stated: Float64Array, reference: SessionReference) -> _Posed:
    found = reference.register(volume)
    aligned = found.aligned
    motion = stated @ aligned.rigid
    motion_6 = motion_about(motion, aligned.centre_mm)
    return _Posed(
        voxels_V=found.voxels_V,
        motion_6=motion_6,
        estimated=True,
        converged=found.converged,
        translation_mm=_triple(motion[:3, 3]),
        rotation_rad=_triple(motion_6[3:]),
        displacement_mm=rigid.displacement_mm(motion, aligned.centre_mm),
        residual=aligned.residual,
        outlier_slices=aligned.outlier_slices,
        registration=found.report,
    )


def _as_it_is(volume: Volume, stated: Float64Array, space: SubjectSpace, given: GivenMotion) -> _Posed:
    """With the motion that was given, or else that which the scanner states."""
    voxels_V = volume.data[space.mask_XYZ].astype(np.float32)
    if given:
        return _Posed(voxels_V, given.ordered_6(volume))
    centre_mm = (volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1.0])[:3]
    return _Posed(voxels_V, motion_about(stated, centre_mm))


def _triple(values: Float64Array) -> Triple:
    a, b, c = values.tolist()
    return a, b, c
