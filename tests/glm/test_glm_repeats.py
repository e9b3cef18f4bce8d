"""Averages over repeats, against the mean of the newest betas themselves."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindsight.glm.repeats import Repeats

N_VOXELS = 5
_steps = st.lists(
    st.one_of(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), st.just("end")), min_size=1, max_size=30
)


@settings(max_examples=100, deadline=None)
@given(_steps)
def test_an_average_is_that_of_the_newest_beta_of_each_trial(steps: list[tuple[str, int] | str]) -> None:
    rng = np.random.default_rng(0)
    repeats, restored = Repeats(N_VOXELS), Repeats(N_VOXELS)
    newest: dict[tuple[int, int], tuple[str, NDArray[np.float32]]] = {}
    run = 1
    for step in steps:
        arrays, meta = restored.state()
        restored = Repeats(N_VOXELS)
        restored.load_state(arrays, json.loads(json.dumps(meta)))
        if step == "end":
            run += 1
            repeats.end_run()
            restored.end_run()
            continue
        item, trial = step
        beta_V = rng.normal(2, 1, N_VOXELS).astype(np.float32)
        newest[run, trial] = (item, beta_V)
        got, again = repeats.put(item, trial, beta_V), restored.put(item, trial, beta_V)
        assert (got.n, got.beta_V.tobytes()) == (again.n, again.beta_V.tobytes())
        for each in "abc":
            betas = [beta_V for shown, beta_V in newest.values() if shown == each]
            average = repeats.average(each)
            assert average.n == len(betas)
            expected_V = np.mean(betas, axis=0) if betas else np.zeros(N_VOXELS)
            np.testing.assert_allclose(average.beta_V, expected_V, rtol=1e-5)


def test_a_revised_beta_leaves_no_trace() -> None:
    huge_V, small_V = np.full(N_VOXELS, 1e12, np.float32), np.full(N_VOXELS, 0.1, np.float32)
    revised, plain = Repeats(N_VOXELS), Repeats(N_VOXELS)
    revised.put("a", 1, huge_V)
    for repeats in (revised, plain):
        repeats.put("a", 1, small_V)
        repeats.put("a", 2, small_V)
    assert revised.average("a").beta_V.tobytes() == plain.average("a").beta_V.tobytes()
