"""The state machine of a session on small runs: stages, order, censoring, errors, restoring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindsight.errors import BadRequest, BadVolume, Conflict, MindsightError, NotFound, OutOfOrder
from mindsight.glm import Event, Statistics, StreamingGLM
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
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


def play(
    session: IngestSession, data_TXYZ: np.ndarray, run: int = 1, events: list[Event] | None = None, **start: object
):
    """A whole run; the answers by volume index."""
    session.start_run(run, TR_S, len(data_TXYZ), **start)
    for event in trials(len(data_TXYZ) * 2 // 16) if events is None else events:
        session.add_event(run, event)
    return {i: session.push(volume(data_TXYZ, i, run)).betas for i in range(len(data_TXYZ))}


def test_results_come_with_the_first_volume_that_reaches_their_time() -> None:
    data = slice_data(40)
    session = new_session()
    answers = play(session, data, events=trials(4))
    when = {(answer.trial, answer.stage): i for i, betas in answers.items() for answer in betas}
    # onset + 7.5 s and + 16 s, counted to the end of the volume: (index + 1) * TR
    assert when == {
        (1, "fast"): 6,
        (1, "revised"): 12,
        (2, "fast"): 14,
        (2, "revised"): 20,
        (3, "fast"): 22,
        (3, "revised"): 28,
        (4, "fast"): 30,
        (4, "revised"): 36,
    }
    assert named(session.end_run(1)) == [(1, 1, "final"), (1, 2, "final"), (1, 3, "final"), (1, 4, "final")]


def test_betas_are_the_streaming_glm_s() -> None:
    data = slice_data(40)
    motion_T6 = np.random.default_rng(1).normal(0, 0.1, (40, 6))
    session = new_session(space=slice_space(data))
    answers = play(session, data, events=trials(4), motion_T6=motion_T6)
    glm = StreamingGLM(session.space.n_voxels, TR_S, noise="ar1", n_confounds=6)
    for event in trials(4):
        glm.add_event(event)
    for i in range(40):
        glm.push(data[i][session.space.mask_XYZ], motion_T6[i])
        for answer in answers[i]:
            assert np.array_equal(answer.beta_V, glm.beta(answer.trial).astype(np.float32))
            assert answer.n_volumes == i + 1
    for answer in session.end_run(1):
        assert np.array_equal(answer.beta_V, glm.beta(answer.trial).astype(np.float32))
    assert np.array_equal(session.run_series(1), data[:, session.space.mask_XYZ])


def test_a_run_s_statistics_are_of_all_its_trials_as_they_are_estimated_now() -> None:
    data = slice_data(64)
    space = slice_space(data)
    known = Statistics(np.zeros(space.n_voxels, np.float32), np.ones(space.n_voxels, np.float32), 50)
    session = IngestSession(replace(OPTIONS, normalise="run", min_betas=3), space, known, clock=Ticks())
    answers = play(session, data, events=trials(6))
    glm = StreamingGLM(space.n_voxels, TR_S, noise="ar1")
    for event in trials(6):
        glm.add_event(event)
    warming = {}
    for i in range(64):
        glm.push(data[i][space.mask_XYZ])
        for answer in answers[i]:
            now_KV = glm.betas()[: answer.n_run]
            warming[answer.trial, answer.stage] = answer.warming_up and (answer.warming_up.n, answer.warming_up.of)
            if answer.n_run < 3:
                continue
            assert (answer.normalised_by, answer.n_statistics) == ("run", answer.n_run)
            np.testing.assert_allclose(answer.mean_V, now_KV.mean(axis=0), rtol=1e-3, atol=1e-3)
    assert [warming[trial, "fast"] for trial in range(1, 5)] == [(1, 3), (2, 3), None, None]


def test_the_response_is_where_it_was_put() -> None:
    session = new_session()
    play(session, slice_data(80), events=trials(8))
    left = np.argwhere(session.space.mask_XYZ)[:, 0] < 8
    for answer in session.end_run(1):
        assert answer.beta_V[left].mean() > 10 * abs(answer.beta_V[~left].mean())


def test_no_result_depends_on_later_volumes() -> None:
    data = slice_data(40)
    other = data.copy()
    other[20:] += 1000 * np.random.default_rng(5).random(other[20:].shape).astype(np.float32)
    late = [*trials(4), Event(40.0, 1.0, 9)]
    one, two = new_session(), new_session()
    first, second = play(one, data, events=trials(4)), play(two, other, events=late)
    for i in range(20):
        assert bits(first[i]) == bits(second[i])
    assert bits(first[20]) != bits(second[20])


def test_an_event_after_its_time_gets_its_result_with_the_next_volume() -> None:
    data = slice_data(40)
    session = new_session()
    session.start_run(1, TR_S)
    for i in range(10):
        assert session.push(volume(data, i)).betas == []
    session.add_event(1, Event(3.0, 3.0, 1))
    assert named(session.push(volume(data, 10)).betas) == [(1, 1, "fast")]


def test_options_reach_the_model() -> None:
    data = slice_data(40)
    answers = {}
    for name, options in {
        "plain": OPTIONS,
        "one second": replace(OPTIONS, event_duration_s=1.0),
        "earlier": replace(OPTIONS, event_lag_s=-1.0),
        "ols": replace(OPTIONS, noise="ols"),
        "spm": replace(OPTIONS, hrf="spm"),
        "fixed": replace(OPTIONS, mode="fixed", high_pass_hz=0.02),
        "other high-pass": replace(OPTIONS, high_pass_hz=0.02),
        "responses": OPTIONS,
        "components": replace(OPTIONS, n_noise_components=1),
        "ridge": replace(OPTIONS, ridge_fraction=0.5),
        "fast only": replace(OPTIONS, revised_s=None),
    }.items():
        space = slice_space(data)
        if name == "responses":
            space = replace(space, hrf_V=np.full(space.n_voxels, 3, np.uint8))
        if name == "components":
            space = replace(space, noise_pool_V=np.argwhere(space.mask_XYZ)[:, 0] >= 8)
        session = new_session(options, space=space)
        answers[name] = [answer for betas in play(session, data, events=trials(4)).values() for answer in betas]
    fast = {name: [a for a in given if a.stage == "fast"][-1].beta_V for name, given in answers.items()}
    assert np.array_equal(fast["plain"], fast["fast only"])
    assert np.array_equal(fast["plain"], fast["ridge"])
    assert len({beta_V.tobytes() for beta_V in fast.values()}) == 9
    revised = {name: [a for a in given if a.stage == "revised"] for name, given in answers.items()}
    assert not np.array_equal(revised["plain"][0].beta_V, revised["ridge"][0].beta_V)
    assert [a.stage for a in answers["fast only"]] == ["fast"] * 4


def test_missing_volumes_flag_the_trials_they_fall_into_and_no_others() -> None:
    data = slice_data(60)
    session = new_session()
    session.start_run(1, TR_S, 60)
    for event in (Event(3.0, 0.0, 1), Event(30.0, 0.0, 2), Event(60.0, 0.0, 3)):
        session.add_event(1, event)
    answers: list[TrialBeta] = []
    for i in range(60):
        answers += session.mark_missing(1, i) if i in (22, 23) else session.push(volume(data, i)).betas
    final = session.end_run(1)
    assert {a.trial: a.flagged for a in final} == {1: False, 2: True, 3: False}
    assert {a.trial: a.flagged_by for a in final} == {1: (), 2: ("missing",), 3: ()}
    assert {a.n_volumes for a in final} == {58}
    assert {(a.trial, a.stage): a.flagged for a in answers if a.trial == 2} == {(2, "fast"): True, (2, "revised"): True}


def test_a_result_is_given_at_its_time_also_when_that_volume_is_missing() -> None:
    data = slice_data(20)
    session = new_session()
    session.start_run(1, TR_S)
    session.add_event(1, Event(3.0, 3.0, 1))
    for i in range(6):
        assert session.push(volume(data, i)).betas == []
    assert named(session.mark_missing(1, 6)) == [(1, 1, "fast")]


@pytest.mark.parametrize("own_space", [True, False])
def test_a_run_may_begin_with_missing_volumes(own_space: bool) -> None:
    data = slice_data(40)
    session = new_session(space=None if own_space else slice_space(data))
    session.start_run(1, TR_S)
    for event in trials(3):
        session.add_event(1, event)
    assert session.mark_missing(1, 0) == []
    session.mark_missing(1, 1)
    found = [answer for i in range(2, 40) for answer in session.push(volume(data, i)).betas]
    assert named(found)[0] == (1, 1, "fast")
    glm = StreamingGLM(session.space.n_voxels, TR_S, noise="ar1")
    for event in trials(3):
        glm.add_event(event)
    for i in range(40):
        glm.push(data[i][session.space.mask_XYZ], censored=i < 2)
    for answer in session.end_run(1):
        expected_V = glm.beta(answer.trial)
        assert np.abs(answer.beta_V - expected_V).max() < 1e-5 * expected_V.std()


def test_a_run_that_ends_too_early_flags_what_had_not_risen() -> None:
    data = slice_data(20)
    session = new_session()
    play(session, data, events=[Event(3.0, 1.0, 1), Event(27.0, 1.0, 2), Event(29.9, 1.0, 3)])
    assert [(a.trial, a.flagged, a.flagged_by) for a in session.end_run(1)] == [(1, False, ()), (2, True, ("early",))]


def test_motion_is_followed_and_jumps_are_censored() -> None:
    data = head_data(12)
    data[7] = np.roll(data[7], 1, axis=1)  # one voxel of 3 mm, for one volume
    session = new_session()
    session.start_run(1, TR_S)
    session.add_event(1, Event(6.0, 0.0, 1))
    outputs = [session.push(volume(data, i)) for i in range(12)]
    reports = [output.report for output in outputs]
    assert {i: report.censored_by for i, report in enumerate(reports) if report.censored} == {7: "motion", 8: "motion"}
    assert [a.flagged_by for output in outputs for a in output.betas] == [("motion",)]
    placed = outputs[0].registration
    assert placed is not None
    assert placed.against == "first_volume", "there is no calibration to compare with"
    assert "from the session's first volume" in placed.describe()
    assert reports[0].fd_mm is None
    assert reports[7].translation_mm[1] == pytest.approx(3.0, abs=0.2)
    assert reports[11].translation_mm[0] == pytest.approx(0.33, abs=0.1)
    assert max(np.abs(report.rotation_rad).max() for report in reports) < 0.01
    assert reports[11].tsnr > 20
    assert session.run_series(1).shape == (12, session.space.n_voxels)


def test_too_thin_or_given_motion_is_not_estimated() -> None:
    data = slice_data(4)
    session = new_session()
    session.start_run(1, TR_S)
    report = session.push(volume(data, 0)).report
    assert (report.translation_mm, report.rotation_rad, report.fd_mm) == (None, None, None)
    head = head_data(3)
    session = new_session()
    session.start_run(1, TR_S, 3, motion_T6=np.zeros((3, 6)))
    output = session.push(volume(head, 0))
    assert output.report.translation_mm is None
    assert output.timings_ms == pytest.approx({"motion": 1.0, "glm": 1.0, "beta": 1.0})


def test_ridge_betas_are_the_streaming_glm_s() -> None:
    data = slice_data(40)
    session = new_session(replace(OPTIONS, ridge_fraction=0.6), space=slice_space(data))
    answers = play(session, data, events=trials(4))
    glm = StreamingGLM(session.space.n_voxels, TR_S, noise="ar1")
    for event in trials(4):
        glm.add_event(event)
    for i in range(40):
        glm.push(data[i][session.space.mask_XYZ])
        for answer in answers[i]:
            by_ridge_V = (
                glm.ridge_betas([answer.trial], 0.6)[0] if answer.stage == "revised" else glm.beta(answer.trial)
            )
            assert np.array_equal(answer.beta_V, by_ridge_V.astype(np.float32))
    finals_KV = np.array([answer.beta_V for answer in session.end_run(1)])
    assert np.array_equal(finals_KV, glm.ridge_betas([1, 2, 3, 4], 0.6).astype(np.float32))


def test_a_fixed_basis_needs_the_length_of_the_run() -> None:
    session = new_session(replace(OPTIONS, mode="fixed"))
    with pytest.raises(BadRequest, match="expected the number of volumes") as raised:
        session.start_run(1, TR_S)
    assert raised.value.code == "run.length_unknown"
    session.start_run(1, TR_S, 20)


def test_restored_with_every_option_the_bits_are_the_same() -> None:
    data = slice_data(30)
    plain = slice_space(data)
    pool_V = np.argwhere(plain.mask_XYZ)[:, 0] >= 8
    space = replace(plain, hrf_V=(np.arange(plain.n_voxels) % 20).astype(np.uint8), noise_pool_V=pool_V)
    options = replace(OPTIONS, mode="fixed", ridge_fraction=0.5, n_noise_components=1)
    straight = new_session(options, space=space)
    restored = new_session(options, space=space)
    for session in (straight, restored):
        session.start_run(1, TR_S, 30)
        for event in trials(2):
            session.add_event(1, event)
    n_answers = 0
    for i in range(30):
        restored = IngestSession.restore(through_json(restored.state()), options, space, clock=Ticks())
        ours, theirs = straight.push(volume(data, i)).betas, restored.push(volume(data, i)).betas
        assert bits(ours) == bits(theirs)
        n_answers += len(ours)
    assert n_answers == 4
    assert bits(straight.end_run(1)) == bits(restored.end_run(1))


@pytest.mark.parametrize("policy", ["running", "run", "bundle"])
@pytest.mark.parametrize("make", [slice_data, head_data])
def test_restored_at_every_volume_the_bits_are_the_same(policy: str, make) -> None:
    data = make(22)
    options = replace(OPTIONS, normalise=policy, min_betas=2)
    space = slice_space(data)
    statistics = Statistics(*np.random.default_rng(0).random((2, space.n_voxels)).astype(np.float32), 30)
    given = {"space": space, "statistics": statistics} if policy != "run" else {}
    straight = new_session(options, **given)
    restored = new_session(options, **given)

    def again(session: IngestSession) -> IngestSession:
        return IngestSession.restore(through_json(session.state()), options, clock=Ticks(), **given)

    n_answers = 0
    for run in (1, 2):
        motion = {"motion_T6": np.random.default_rng(run).normal(0, 1, (22, 6))} if run == 2 else {}
        for session in (straight, restored):
            session.start_run(run, TR_S, 22, **motion)
            for event in [*trials(2), Event(20.0, 1.0, None)]:
                session.add_event(run, event)
        for i in range(22):
            restored = again(restored)
            if i in (0, 9):
                ours, theirs = straight.mark_missing(run, i), restored.mark_missing(run, i)
            else:
                one, two = straight.push(volume(data, i, run)), restored.push(volume(data, i, run))
                assert one.report == two.report
                ours, theirs = one.betas, two.betas
            assert bits(ours) == bits(theirs)
            n_answers += len(ours)
        restored = again(restored)
        ours, theirs = straight.end_run(run), restored.end_run(run)
        assert bits(ours) == bits(theirs)
        restored = again(restored)
        assert straight.run_series(run).tobytes() == restored.run_series(run).tobytes()
        n_answers += len(ours)
    assert n_answers == 12


def test_other_options_do_not_continue_a_session() -> None:
    state = new_session().state()
    with pytest.raises(Conflict, match="expected the options") as raised:
        IngestSession.restore(state, IngestOptions(fast_s=3.0), clock=Ticks())
    assert raised.value.code == "ingest.options_changed"


def test_errors_say_what_was_expected_and_leave_the_session_as_it_was() -> None:
    data = slice_data(30)
    wider = np.pad(data, ((0, 0), (0, 1), (0, 0), (0, 0)))
    spoiled = data.copy()
    spoiled[1, 7, 7, 0] = np.nan
    session, undisturbed = new_session(), new_session()
    for each in (session, undisturbed):
        each.start_run(1, TR_S, 30)
        for event in trials(2):
            each.add_event(1, event)
        each.push(volume(data, 0))
    cases: list[tuple[str, type[MindsightError], object]] = [
        ("trial.duplicate", BadRequest, lambda: session.add_event(1, Event(9.0, 1.0, 2))),
        ("run.unknown", NotFound, lambda: session.add_event(2, Event(9.0, 1.0, 2))),
        ("run.unknown", NotFound, lambda: session.run_series(2)),
        ("run.unknown", NotFound, lambda: session.end_run(2)),
        ("run.active", Conflict, lambda: session.start_run(2, TR_S)),
        ("volume.out_of_order", OutOfOrder, lambda: session.push(volume(data, 2))),
        ("volume.out_of_order", OutOfOrder, lambda: session.push(volume(data, 0))),
        ("volume.out_of_order", OutOfOrder, lambda: session.mark_missing(1, 5)),
        ("run.unknown", NotFound, lambda: session.push(volume(data, 0, run=2))),
        ("volume.shape_mismatch", BadVolume, lambda: session.push(volume(wider, 1))),
        ("volume.shape_mismatch", BadVolume, lambda: session.push(volume(data, 1, mm=3.1))),
        ("volume.not_finite", BadVolume, lambda: session.push(volume(spoiled, 1))),
    ]
    for code, kind, call in cases:
        with pytest.raises(kind, match="expected") as raised:
            call()
        assert raised.value.code == code
    for i in range(1, 30):
        assert bits(session.push(volume(data, i)).betas) == bits(undisturbed.push(volume(data, i)).betas)
    assert bits(session.end_run(1)) == bits(undisturbed.end_run(1))
    for code, call in {
        "run.ended": lambda: session.push(volume(data, 0)),
        "run.taken": lambda: session.start_run(1, TR_S),
    }.items():
        with pytest.raises(Conflict, match="expected") as raised:
            call()
        assert raised.value.code == code


def test_an_error_carries_what_a_program_needs() -> None:
    data = slice_data(3)
    session = new_session(space=slice_space(data))
    session.start_run(1, TR_S)
    with pytest.raises(BadVolume) as wrong:
        session.push(volume(np.pad(data, ((0, 0), (0, 1), (0, 0), (0, 0))), 0))
    assert wrong.value.details == {"expected": "16x14x1", "got": "17x14x1"}
    with pytest.raises(OutOfOrder) as late:
        session.push(volume(data, 2))
    assert late.value.details["expected_index"] == 0


@pytest.mark.parametrize("motion_T6", [np.zeros((5, 6)), np.zeros((30, 5)), np.zeros(30)])
def test_motion_of_another_shape_is_refused(motion_T6: np.ndarray) -> None:
    with pytest.raises(BadRequest, match="six motion parameters") as raised:
        new_session().start_run(1, TR_S, 30, motion_T6=motion_T6)
    assert raised.value.code == "motion.shape"


def test_motion_that_ends_early_is_refused_at_its_end() -> None:
    data = slice_data(3)
    session = new_session()
    session.start_run(1, TR_S, motion_T6=np.zeros((2, 6)))
    session.push(volume(data, 0))
    session.push(volume(data, 1))
    with pytest.raises(BadRequest, match="got 2 rows") as raised:
        session.push(volume(data, 2))
    assert raised.value.code == "motion.shape"


def test_options_and_spaces_that_make_no_sense_are_refused() -> None:
    reference = volume(slice_data(1), 0)
    for make in (
        lambda: IngestOptions(fast_s=0.0),
        lambda: IngestOptions(final_volumes=0),
        lambda: SubjectSpace(reference, np.zeros((16, 14, 1), np.bool_)),
        lambda: IngestOptions(ridge_fraction=1.0),
        lambda: SubjectSpace(reference, np.ones((16, 14, 2), np.bool_)),
        lambda: replace(slice_space(slice_data(1)), hrf_V=np.zeros(3, np.uint8)),
    ):
        with pytest.raises(BadRequest, match="expected"):
            make()


def test_a_trial_before_the_run_is_modelled_as_the_glm_does_and_flagged_where_volumes_are_wanting() -> None:
    data = slice_data(40)
    session = new_session()
    play(session, data, events=[Event(-0.5, 1.0, 1), Event(-6.0, 1.0, 2), Event(9.0, 1.0, 3), Event(-3.0, 0.0, None)])
    finals = {answer.trial: answer for answer in session.end_run(1)}
    assert {trial: answer.flagged_by for trial, answer in finals.items()} == {1: (), 2: ("early",), 3: ()}
    glm = StreamingGLM(session.space.n_voxels, TR_S, noise="ar1")
    for event in (Event(-0.5, 1.0, 1), Event(-6.0, 1.0, 2), Event(9.0, 1.0, 3), Event(-3.0, 0.0, None)):
        glm.add_event(event)
    for i in range(40):
        glm.push(data[i][session.space.mask_XYZ])
    for trial, answer in finals.items():
        np.testing.assert_allclose(answer.beta_V, glm.beta(trial), rtol=1e-5, atol=1e-4)


def test_a_trial_that_no_volume_shows_has_no_final_result_and_is_named() -> None:
    """After a stopped run, in volumes that never came, and over before the first."""
    data = slice_data(20)
    late = [Event(40.0, 1.0, 2), Event(28.5, 1.0, 3), Event(900.0, 1.0, 4), Event(-20.0, 2.0, 5), Event(-23.9, 0.0, 6)]
    straight, resumed = new_session(), new_session()
    for session in (straight, resumed):
        session.start_run(1, TR_S, 40)
        for event in (Event(3.0, 1.0, 1), *late):
            session.add_event(1, event)
        for i in range(20):
            session.push(volume(data, i))
        for i in range(20, 30):
            session.mark_missing(1, i)
    resumed = IngestSession.restore(through_json(straight.state()), OPTIONS, clock=Ticks())
    for session in (straight, resumed):
        assert [answer.trial for answer in session.end_run(1)] == [1]
        assert session.unmeasured_trials(1) == (2, 3, 4, 5, 6)
        assert session.n_events(1) == 6


def test_a_calibrated_lag_moves_no_event_out_of_the_model() -> None:
    data = slice_data(12)
    session = new_session(replace(OPTIONS, event_lag_s=-1.0))
    play(session, data, events=[Event(-23.5, 0.0, None), Event(-23.5, 30.0, 1), Event(3.0, 1.0, 2)])
    assert {answer.trial for answer in session.end_run(1)} == {1, 2}
