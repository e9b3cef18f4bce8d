"""Questions are handed out once, answers are short-lived, and too many questions drop the older ones."""

from __future__ import annotations

from mindsight.bus import Bus, Questions
from mindsight.bus.forget import forget_logs, mentions
from mindsight.bus.questions import MOST


def test_a_question_is_handed_out_once_and_its_answer_is_read_by_all(bus: Bus) -> None:
    questions = Questions(bus, "ses-q")
    questions.ask("one")
    questions.ask("one")
    assert questions.take() == ["one"]
    assert questions.take() == []
    assert questions.read("one") is None
    questions.answer("one", b"1")
    assert questions.read("one") == questions.read("one") == b"1"
    assert Questions(bus, "ses-other").read("one") is None


def test_the_newest_questions_win(bus: Bus) -> None:
    questions = Questions(bus, "ses-many")
    for k in range(MOST + 1):
        questions.ask(str(k))
    assert questions.take() == [str(MOST)]


def test_they_go_with_the_session_s_logs(bus: Bus) -> None:
    questions = Questions(bus, "ses-gone")
    questions.ask("one")
    questions.answer("two", b"2")
    forget_logs(bus, "ses-gone")
    assert mentions(bus, lambda value: b"ses-gone" in value) == []
