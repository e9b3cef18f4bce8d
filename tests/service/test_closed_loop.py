"""A result is awaited until its deadline; what comes later is not shown."""

from __future__ import annotations

from typing import Any

from mindsight.protocol import (
    Candidate,
    EventAdded,
    FeedbackChosen,
    Reconstruction,
    Result,
    RunStarted,
    VolumeReceived,
)
from mindsight.protocol.feedback import Fallback, FeedbackPlan
from mindsight.stages import Stage
from service.closed_loop import ClosedLoop, Feedback

BEGAN_T = 1000.0
DIGEST = "ab" * 32
IN_ALL: dict[str, Any] = {"session": "s", "t": BEGAN_T, "run": 1}


def loop(**plan: Any) -> ClosedLoop:
    """Run 1, which began at BEGAN_T, with trials at 4, 8 and 12 s."""
    made = ClosedLoop()
    made.see(FeedbackChosen(session="s", t=1.0, plan=FeedbackPlan(**plan)))
    made.see(RunStarted(**IN_ALL, task="view", tr_s=2.0))
    for trial in (1, 2, 3):
        made.see(EventAdded(**IN_ALL, trial=trial, onset_s=4.0 * trial, duration_s=3.0, label="a secret"))
    assert made.next_t() is None, "when the run began is not known before its first volume"
    for index, late_s in ((0, 0.4), (1, 0.0), (2, 0.3)):  # the volume with the least delay tells
        t = BEGAN_T + 2.0 * (index + 1) + late_s
        made.see(VolumeReceived(session="s", t=t, run=1, index=index))
    return made


def result(trial: int, stage: Stage = "fast") -> Result:
    return Result(
        **IN_ALL, trial=trial, stage=stage, candidates=(Candidate(id="cat-7", label="cat", score=1.0),), confidence=0.6,
        null_confidence=0.1, chance=0.1, pool_size=10, model=DIGEST, pool=DIGEST, normalised_by="bundle",
    )  # fmt: skip


def drawn(trial: int, version: Any = "full") -> Reconstruction:
    return Reconstruction(
        **IN_ALL, trial=trial, stage="fast", version=version, image=DIGEST, seed=1, evaluations=4, generator=DIGEST
    )


def test_the_first_result_of_the_stage_is_shown_once() -> None:
    waiting = loop(show="candidate", deadline_s=10.0)
    assert waiting.see(result(1, "revised")) is None
    assert waiting.see(drawn(1)) is None
    assert waiting.see(result(1)) == Feedback((1, 1), text="cat")
    assert waiting.see(result(1)) is None
    assert loop(show="confidence").see(result(2)) == Feedback((1, 2), value=0.6)
    pictures = loop(show="reconstruction")
    assert [pictures.see(message) for message in (result(3), drawn(3, "preview"))] == [None, None]
    assert pictures.see(drawn(3)) == Feedback((1, 3), image=DIGEST)


def test_a_trial_whose_result_is_late_gets_its_fallback_and_nothing_after_it() -> None:
    waiting = loop(show="candidate", deadline_s=10.0, fallback=Fallback(show="text", text="rest"))
    assert waiting.next_t() == BEGAN_T + 4.0 + 10.0
    assert waiting.due(BEGAN_T + 13.9) == []
    assert waiting.due(BEGAN_T + 14.0) == [Feedback((1, 1), fallback=True)]
    assert waiting.see(result(1)) is None, "too late"
    assert waiting.see(result(2)) == Feedback((1, 2), text="cat")
    assert waiting.next_t() == BEGAN_T + 12.0 + 10.0
    assert waiting.due(BEGAN_T + 100.0) == [Feedback((1, 3), fallback=True)]
    assert waiting.next_t() is None


def test_without_a_choice_nothing_is_shown() -> None:
    waiting = loop()
    assert [waiting.see(message) for message in (result(1), drawn(1))] == [None, None]
    assert waiting.due(BEGAN_T + 100.0) == []


def test_of_what_was_before_the_screen_came_nothing_is_shown() -> None:
    waiting = loop(show="candidate", deadline_s=10.0)
    waiting.prime([result(1)], now=BEGAN_T + 19.0)
    assert waiting.next_t() == BEGAN_T + 22.0
