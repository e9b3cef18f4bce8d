"""What a reconstruction's noise depends on."""

from __future__ import annotations

import pytest

from mindsight.protocol.work import BetaWork
from workers.inference.reconstructions import seed_of

WORK = BetaWork(session="s", run=1, trial=2, stage="fast", beta="0" * 64, logged_t=0.0)


def test_a_trials_stages_have_the_same_noise() -> None:
    later = [WORK.model_copy(update={"stage": stage, "beta": "1" * 64}) for stage in ("revised", "final")]
    assert {seed_of(work, "model") for work in (WORK, *later)} == {seed_of(WORK, "model")}


@pytest.mark.parametrize("change", [{"session": "t"}, {"run": 2}, {"trial": 3}])
def test_another_trial_has_another(change: dict[str, object]) -> None:
    assert seed_of(WORK.model_copy(update=change), "model") != seed_of(WORK, "model")


def test_another_model_has_another() -> None:
    assert seed_of(WORK, "model") != seed_of(WORK, "other")
