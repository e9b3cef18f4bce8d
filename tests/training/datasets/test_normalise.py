"""Z-scores by session and training trials alone, and the voxels that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindsight.errors import BadRequest
from support.trials import small_data
from training.datasets.normalise import normalised
from training.datasets.trials import ArrayBetas, SubjectTrials

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def subject() -> SubjectTrials:
    return small_data(1, trials=700, images=800).dataset.subjects[0]  # more trials of a session than one chunk


def with_betas(subject: SubjectTrials, change: object) -> SubjectTrials:
    betas = subject.betas.read(np.arange(len(subject))).copy()
    change(betas)  # type: ignore[operator]
    return replace(subject, betas=ArrayBetas(betas))


def test_each_session_is_scored_by_its_training_trials(subject: SubjectTrials) -> None:
    training = set(subject.images[:40]) | set(subject.images[360:640])
    rows = np.arange(len(subject))
    scored, raw = normalised(subject, training).read(rows), subject.betas.read(rows).astype(np.float64)
    in_training = np.array([image in training for image in subject.images])
    for session in ("1", "2"):
        here = np.array(subject.sessions) == session
        known = raw[here & in_training]
        expected = (raw[here] - known.mean(0)) / known.std(0)
        np.testing.assert_allclose(scored[here], expected, rtol=0, atol=8 * 5.0 * EPS)  # of betas near 5, in float32


def test_held_out_trials_do_not_change_the_scale(subject: SubjectTrials) -> None:
    training = set(subject.images[:300]) | set(subject.images[350:640])
    held = [row for row, image in enumerate(subject.images) if image not in training]

    def louder(betas: np.ndarray) -> None:
        betas[held] *= 100.0

    known = subject.rows_of(training)
    before, after = (normalised(one, training).read(known) for one in (subject, with_betas(subject, louder)))
    assert np.array_equal(before, after)


def test_scoring_twice_changes_nothing_more(subject: SubjectTrials) -> None:
    training, rows = set(subject.images), np.arange(len(subject))
    once = normalised(subject, training).read(rows)
    again = normalised(replace(subject, betas=ArrayBetas(once)), training).read(rows)
    np.testing.assert_allclose(again, once, atol=1e-4)


@pytest.mark.parametrize(("value", "code"), [(np.nan, "not_finite"), (np.inf, "not_finite"), (7.0, "constant")])
def test_voxels_that_cannot_be_trained_on_are_refused(subject: SubjectTrials, value: float, code: str) -> None:
    def spoil(betas: np.ndarray) -> None:
        betas[5 : 6 if code == "not_finite" else 350, 11] = value
        if code == "constant":
            betas[:350, 11] = value

    with pytest.raises(BadRequest, match=r"1 .*of 35 .*subject s1, the first in place 11 of the mask: make") as raised:
        normalised(with_betas(subject, spoil), set(subject.images))
    assert raised.value.code == f"dataset.{code}"


def test_a_session_without_training_trials_is_refused(subject: SubjectTrials) -> None:
    with pytest.raises(BadRequest, match=r"expected 10 training trials or more .* in session 2"):
        normalised(subject, set(subject.images[:300]) - set(subject.images[350:]))
