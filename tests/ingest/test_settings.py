"""What a person can set: limits that change during a run, when answers come, when a trial is finished, repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mindsight.glm import Event, StreamingGLM
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.repeats import Repeats
from mindsight.operations.replay import start_run
from mindsight.scanner import open_run
from support.ingest_world import (
    OPTIONS,
    TR_S,
    Ticks,
    bits,
    head_data,
    named,
    new_session,
    slice_data,
    slice_space,
    through_json,
    trials,
    volume,
)

OFTEN_MOVED = (10, 15, 20, 25)


def moving_head() -> np.ndarray:
    data = head_data(30)
    for i in OFTEN_MOVED:
        data[i] = ndimage.shift(data[i], (0.0, 0.25, 0.0), order=3)  # 0.75 mm there, and back with the next volume
    return data


def test_limits_change_between_two_volumes_and_a_restored_session_goes_on_with_them() -> None:
    data = moving_head()
    straight, restored = new_session(), new_session()
    for session in (straight, restored):
        session.start_run(1, TR_S, 30)
        for event in trials(2):
            session.add_event(1, event)
    censored, reported = [], []
    for i in range(30):
        if i == 13:
            for session in (straight, restored):
                session.set_limits(replace(session.limits, fd_mm=None, spikes=None, dvars_ratio=None), 2.0)
        if i == 22:
            for session in (straight, restored):
                session.set_limits(replace(session.limits, fd_mm=0.3), 0.4)
        restored = IngestSession.restore(through_json(restored.state()), OPTIONS, clock=Ticks())
        one, two = straight.push(volume(data, i)), restored.push(volume(data, i))
        assert one.report == two.report
        assert bits(one.betas) == bits(two.betas)
        if one.report.censored and one.report.fd_mm > 0.3:
            censored.append(i)
        reported += [(i, alert.code) for alert in one.report.alerts if alert.code.startswith("quality.motion")]
    assert censored == [10, 11, 25, 26]
    # it is over when it is switched off, and starts again with the new limit
    assert reported == [(10, "quality.motion"), (13, "quality.motion.over"), (25, "quality.motion")]
    assert [alert.code for alert in straight.end_alerts(1) if "motion" in alert.code] == ["quality.motion.over"]
    assert straight.end_alerts(1) == []
    assert (straight.limits.fd_mm, straight.fd_threshold_mm) == (0.3, 0.4)
    straight.end_run(1)
    straight.start_run(2, TR_S, 30)
    reports = [straight.push(volume(data, i, run=2)).report for i in range(13)]
    assert [i for i, report in enumerate(reports) if report.censored] == [10, 11]


@pytest.mark.parametrize(
    "options",
    [
        IngestOptions(fast_s=7.5, revised_s=15.0, final_s=24.0),
        IngestOptions(fast_volumes=5, revised_volumes=10, final_volumes=16),
        IngestOptions(fast_s=7.5, revised_volumes=10, final_s=24.0),
    ],
)
def test_results_come_after_seconds_or_volumes(options: IngestOptions) -> None:
    data = slice_data(40)
    session = new_session(options)
    session.start_run(1, TR_S, 40)
    for event in [*trials(3), Event(42.0, 1.0, 9)]:
        session.add_event(1, event)
    when = {}
    for i in range(40):
        for answer in session.push(volume(data, i)).betas:
            when[answer.trial, answer.stage] = i
    # onset + wait, counted to the end of the volume; the last trial's final answer would come after the run
    expected = {
        (trial, stage): round((3.0 + 12.0 * (trial - 1) + wait_s) / TR_S) - 1
        for trial in (1, 2, 3)
        for stage, wait_s in (("fast", 7.5), ("revised", 15.0), ("final", 24.0))
    }
    assert when == expected | {(9, "fast"): 32, (9, "revised"): 37}
    assert named(session.end_run(1)) == [(1, 9, "final")]


def test_a_result_that_is_not_later_than_the_one_before_is_left_out() -> None:
    assert IngestOptions(fast_s=30.0).waits_s(2.0) == {"fast": 30.0}
    assert IngestOptions(fast_volumes=3, revised_s=6.0, final_volumes=4).waits_s(2.0) == {"fast": 6.0, "final": 8.0}


def answers_of(options: IngestOptions, again: bool = False) -> dict[tuple[int, str], TrialBeta]:
    data = slice_data(60)
    space = slice_space(data)
    session = new_session(options, space=space)
    session.start_run(1, TR_S, 60)
    for event in trials(6):
        session.add_event(1, event)
    answers: list[TrialBeta] = []
    for i in range(60):
        if again:
            session = IngestSession.restore(through_json(session.state()), options, space, clock=Ticks())
        answers += session.push(volume(data, i)).betas
    answers += session.end_run(1)
    assert len({(a.trial, a.stage) for a in answers}) == len(answers)
    return {(a.trial, a.stage): a for a in answers}


@pytest.mark.parametrize("ridge", [None, 0.6])
def test_in_a_fixed_basis_a_finished_trial_does_not_move(ridge: float | None) -> None:
    options = replace(OPTIONS, mode="fixed", revised_s=20.0, ridge_fraction=ridge)
    answers = answers_of(options)
    finished = [trial for trial in range(1, 7) if (trial, "revised") in answers]
    assert finished == [1, 2, 3, 4, 5, 6]
    for trial in finished:
        revised, final = answers[trial, "revised"], answers[trial, "final"]
        assert final.beta_V.tobytes() == revised.beta_V.tobytes()
        assert (final.n_volumes, final.flagged, final.error) == (revised.n_volumes, revised.flagged, revised.error)
    # as they are in nilearn's basis, they move
    moving = answers_of(replace(options, mode="nilearn"))
    assert any(moving[t, "final"].beta_V.tobytes() != moving[t, "revised"].beta_V.tobytes() for t in finished)
    again = answers_of(options, again=True)
    assert bits(list(again.values())) == bits(list(answers.values()))
    # a trial whose revised answer has not come is not finished, and its final answer rests on the whole run
    late = answers_of(replace(options, revised_s=40.0))
    assert (6, "revised") not in late
    assert late[6, "final"].n_volumes == 60
    assert late[1, "final"].n_volumes == 29


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_every_result_states_its_uncertainty(noise: str) -> None:
    data = slice_data(60)
    answers = answers_of(replace(OPTIONS, noise=noise))
    glm = StreamingGLM(slice_space(data).n_voxels, TR_S, noise=noise)
    for event in trials(6):
        glm.add_event(event)
    for i in range(60):
        glm.push(data[i][slice_space(data).mask_XYZ])
    for trial, (together_V, error_V) in zip(range(1, 7), glm.estimates(range(1, 7)), strict=True):
        beta_V = glm.estimate(trial).beta_V
        assert beta_V.tobytes() == glm.beta(trial).tobytes()
        assert np.abs(beta_V - together_V).max() <= 1e-9 * beta_V.std()
        final = answers[trial, "final"]
        assert np.array_equal(final.error_V, error_V.astype(np.float32))
        assert final.error == pytest.approx(np.median(error_V))
        assert glm.typical_error(trial) == pytest.approx(np.median(error_V))  # few voxels: of all of them
        fast = answers[trial, "fast"]
        assert fast.error_V is None
        if trial > 1:  # of the first trial's fast answer there may be too few volumes to tell
            assert fast.error > final.error
    assert answers_of(replace(OPTIONS, ridge_fraction=0.5))[1, "final"].error is None


@pytest.mark.parametrize(
    ("order", "file"), [("translations", "rp_bold.txt"), ("rotations", "bold_mcf.par"), (None, "motion.txt")]
)
def test_given_motion_censors_where_its_order_is_known(
    order: str | None, file: str, tmp_path: Path, shared: Path
) -> None:
    bold = shared / "data" / "haxby2001" / "run-001" / "bold.nii.gz"
    (tmp_path / "bold.nii.gz").symlink_to(bold)
    n = open_run(tmp_path).n_volumes
    motion_T6 = np.zeros((n, 6))
    motion_T6[12:] = [0.3, 0.0, 0.0, 0.0, 0.01, 0.0]  # mm, rad: 0.3 mm + 50 mm * 0.01
    motion_T6[20:] += [0.0, 0.2, 0.0, 0.0, 0.0, 0.0]
    np.savetxt(tmp_path / file, np.roll(motion_T6, 3, axis=1) if order == "rotations" else motion_T6)
    recorded = open_run(tmp_path)
    assert recorded.motion_order == order
    session = new_session()
    start_run(session, recorded, [])
    reports = []
    for volume_ in recorded.volumes():
        if volume_.index > 25:
            break
        session = IngestSession.restore(through_json(session.state()), OPTIONS, clock=Ticks())
        reports.append(session.push(volume_).report)
    if order is None:
        assert all(report.fd_mm is None and not report.censored for report in reports)
        return
    assert reports[12].fd_mm == pytest.approx(0.8)
    assert reports[20].fd_mm == pytest.approx(0.2)
    assert [i for i, report in enumerate(reports) if report.censored] == [12]


def test_of_many_voxels_the_typical_error_is_that_of_a_thousand() -> None:
    rng = np.random.default_rng(0)
    glm = StreamingGLM(9000, TR_S, noise="ar1", hrf_V=rng.integers(0, 3, 9000))
    for event in trials(6):
        glm.add_event(event)
    for _ in range(60):
        glm.push(rng.normal(500.0, rng.uniform(3, 12), 9000))
    assert glm.typical_error(4) == pytest.approx(np.median(glm.estimate(4).error_V), rel=0.03)


def test_repeats_are_the_newest_of_the_trials_that_showed_the_same() -> None:
    repeats: Repeats[str] = Repeats()
    for run, trial, item in ((1, 1, "a"), (1, 2, "b"), (1, 3, "a"), (2, 1, "a"), (2, 2, "b")):
        repeats.declare(run, trial, item)
    assert repeats.put(1, 1, "a1 fast") == []
    assert repeats.put(1, 2, "b1") == []
    assert repeats.put(1, 3, "a3") == ["a1 fast"]
    assert repeats.put(1, 1, "a1 revised") == ["a3"]
    restored: Repeats[str] = Repeats()
    restored.load_state(json.loads(json.dumps(repeats.state())))
    for either in (repeats, restored):
        assert either.put(2, 1, "a2") == ["a1 revised", "a3"]
        assert either.put(1, 3, "a3 disturbed", sound=False) == ["a1 revised", "a2"]
        assert either.put(2, 1, "a2 revised") == ["a1 revised"]
        assert either.put(2, 2, "b2") == ["b1"]
        assert either.put(2, 9, "never declared") == []
