"""Ingest on real runs: the block response of a neurofeedback run, and eight kinds of images in one slice."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.glm import Event
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta, VolumeReport
from mindsight.ingest.space import SubjectSpace
from mindsight.scanner.recording import RecordedRun, open_run
from support.ingest_world import bits, named, through_json


def declared(session: IngestSession, run: RecordedRun, motion_T6: NDArray[np.float64] | None = None) -> IngestSession:
    session.start_run(run.run, run.tr_s, run.n_volumes, motion_T6)
    for trial, event in enumerate(run.events, start=1):
        session.add_event(run.run, Event(event.onset_s, event.duration_s, trial))
    return session


@pytest.fixture(scope="module")
def trio(shared: Path) -> RecordedRun:
    return open_run(shared / "data" / "trio_run155")


@pytest.fixture(scope="module")
def rois(shared: Path) -> list[NDArray[np.bool_]]:
    """The two regions of the experiment, left and right, (X, Y, Z) on the volumes' grid."""
    folder = shared / "data" / "trio_run155"
    return [np.asarray(nibabel.load(folder / name).dataobj) > 0 for name in ("lROI_1.nii", "rROI_2.nii")]


@pytest.fixture(scope="module")
def trio_session(
    trio: RecordedRun, rois: list[NDArray[np.bool_]]
) -> tuple[IngestSession, list[VolumeReport], list[TrialBeta]]:
    space = SubjectSpace(next(trio.volumes()), rois[0] | rois[1])
    session = declared(IngestSession(IngestOptions(hrf="spm"), space, clock=time.perf_counter), trio)
    reports = [session.push(volume).report for volume in trio.volumes()]
    return session, reports, session.end_run(1)


def z_of_blocks(run: RecordedRun, series_T: NDArray[np.float32], motion_T6: NDArray[np.float64]) -> float:
    import pandas as pd
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

    events = pd.DataFrame([(e.onset_s, e.duration_s, "block") for e in run.events])
    events.columns = pd.Index(["onset", "duration", "trial_type"])
    frame_s = run.tr_s * np.arange(len(series_T))
    design = make_first_level_design_matrix(frame_s, events, hrf_model="spm", add_regs=motion_T6)
    labels, results = run_glm(series_T[:, None].astype(float), design.to_numpy(), noise_model="ar1")
    contrast = np.zeros(design.shape[1])
    contrast[list(design.columns).index("block")] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(compute_contrast(labels, results, contrast, stat_type="t").z_score()[0])


def test_the_block_response_of_a_real_run_is_there(
    trio: RecordedRun,
    trio_session: tuple[IngestSession, list[VolumeReport], list[TrialBeta]],
    rois: list[NDArray[np.bool_]],
) -> None:
    """The experiment's own analysis was SPM's; the response of self-regulation is slow, as SPM's function is."""
    session, reports, final = trio_session
    motion_T6 = np.array([[*r.translation_mm, *r.rotation_rad] for r in reports])
    series_TV = session.run_series(1)
    assert series_TV.shape == (155, session.space.n_voxels)
    assert named(final) == [(1, trial, "final") for trial in range(1, 8)]
    for roi_XYZ, at_least in zip(rois, (5.0, 3.5), strict=True):
        of_roi_V = roi_XYZ[session.space.mask_XYZ]
        z = z_of_blocks(trio, series_TV[:, of_roi_V].mean(axis=1), motion_T6)
        block_K = np.array([answer.beta_V[of_roi_V].mean() for answer in final])
        print(f"z = {z:.2f}, blocks {block_K.round(2)}, tSNR {reports[-1].tsnr:.1f}")
        assert z >= at_least
        assert block_K.mean() > 2.0 * block_K.std(ddof=1) / np.sqrt(7)


def test_a_still_participant_is_not_censored(
    trio_session: tuple[IngestSession, list[VolumeReport], list[TrialBeta]],
) -> None:
    _, reports, final = trio_session
    assert not any(report.censored for report in reports)
    assert not any(answer.flagged for answer in final)
    assert max(report.fd_mm for report in reports[1:]) < 0.5


@pytest.mark.slow
def test_killed_in_a_real_run_the_betas_are_the_same(trio: RecordedRun) -> None:
    options = IngestOptions(fast_s=6.0, revised_s=None)
    straight = declared(IngestSession(options, clock=time.perf_counter), trio)
    restored = declared(IngestSession(options, clock=time.perf_counter), trio)
    n_answers = 0
    for volume in trio.volumes():
        if volume.index == 20:
            break
        if volume.index % 3 == 1:
            restored = IngestSession.restore(through_json(restored.state()), options, clock=time.perf_counter)
        one, two = straight.push(volume), restored.push(volume)
        assert one.report == two.report
        assert bits(one.betas) == bits(two.betas)
        n_answers += len(one.betas)
    assert n_answers == 1
    assert bits(straight.end_run(1)) == bits(restored.end_run(1))


def test_eight_kinds_of_images_with_motion_from_a_file(shared: Path) -> None:
    session = IngestSession(IngestOptions(revised_s=None), clock=time.perf_counter)
    betas, labels = [], []
    for number in range(1, 10):
        run = open_run(shared / "data" / "haxby2001" / f"run-00{number}", number)
        declared(session, run, run.motion_T6)
        fast = [answer for volume in run.volumes() for answer in session.push(volume).betas]
        final = session.end_run(number)
        assert named(fast) == [(number, trial, "fast") for trial in range(1, 9)]
        assert named(final) == [(number, trial, "final") for trial in range(1, 9)]
        assert not any(answer.flagged for answer in final)
        assert {(answer.normalised_by, answer.n_statistics) for answer in final} == {("running", 8 * number - 1)}
        betas += [(answer.beta_V - answer.mean_V) / answer.std_V for answer in final]
        labels += [event.label for event in run.events]
    # The same kind of image in another run gives a more similar pattern than another kind does (Haxby et al. 2001).
    similarity = np.corrcoef(np.array(betas))
    other_run = np.repeat(np.arange(9), 8)[:, None] != np.repeat(np.arange(9), 8)
    same_kind = np.array(labels)[:, None] == np.array(labels)
    within, between = similarity[other_run & same_kind], similarity[other_run & ~same_kind]
    assert within.mean() > between.mean() + 4 * between.std() / np.sqrt(within.size / 2)
