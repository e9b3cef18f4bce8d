from __future__ import annotations

import pytest

from mindsight.errors import BadRequest
from mindsight.subjects.needed import check_labels, check_tuned

FINE = [["a", "b"] * 3, ["b", "a"] * 3]


def test_enough_is_let_through() -> None:
    check_labels(FINE, None)
    images = [f"image-{i}" for i in range(50)]
    check_labels([images[:6], images[6:12]], images)
    check_labels([list("abcdefghijkl")], None, min_runs=1)


@pytest.mark.parametrize(
    ("runs", "candidates", "code"),
    [
        ([], None, "calibration.runs"),
        (FINE[:1], None, "calibration.runs"),
        ([["a"], ["b"]], None, "calibration.few"),
        ([["a"] * 6, ["a"] * 6], None, "calibration.labels"),
        ([list("abcdef"), list("ghijkl")], None, "calibration.repeats"),
        (FINE, {"a", "c"}, "pool.unknown_candidate"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_with_what_is_needed(
    runs: list[list[str]], candidates: set[str] | None, code: str
) -> None:
    with pytest.raises(BadRequest, match="expected") as refused:
        check_labels(runs, candidates)
    assert refused.value.code == code


def test_gradient_steps_need_images_that_can_be_left_out() -> None:
    check_tuned([list("abcdef"), list("fghij")])
    with pytest.raises(BadRequest, match="at least 10 different images") as refused:
        check_tuned([list("abcdef")] * 3)
    assert refused.value.code == "calibration.images"
