"""What a file gets of a command's progress."""

from __future__ import annotations

import pytest

from mindsight import progress as progress_module
from mindsight.progress import Progress, time_of


def test_a_line_names_what_is_done_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = iter([0.0, 1.0, 1.2, 1.4, 30.0, 60.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now_s))
    with Progress() as progress:
        progress("reading", 0.0)
        progress("reading", 0.01)  # a moment later: no line
        progress("sorting", 0.02)
        progress("fitting", 0.5)
        progress("done", 1.0)  # the result follows
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["reading, 0% done", "fitting, 50% done, about 30 s left"]
    assert printed.out == ""


def test_a_command_whose_result_is_for_a_program_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=True) as progress:
        progress("reading", 0.0)
    assert capsys.readouterr() == ("", "")


def test_times_are_short() -> None:
    assert [time_of(seconds) for seconds in (40.0, 720.0, 5400.0)] == ["40 s", "12 min", "1.5 h"]
