"""The file of a run's course, and the time left."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.course.metrics import Metrics, Progress, read_lines, time_left


def test_steps_after_the_checkpoint_and_a_line_cut_by_a_kill_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n{"step": 3, "lo')
    metrics = Metrics(path, step=1)
    metrics.write(2, {"loss": 0.25})
    metrics.close()
    assert read_lines(path) == ['{"step": 1, "loss": 0.5}', '{"step": 2, "loss": 0.25}']


def test_the_time_left_follows_from_the_steps_of_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(first=100, steps=200, now_s=1000.0)
    progress(101, 0.5, 1005.0)  # too early for a line
    progress(110, 0.25, 1020.0)
    progress(200, 0.125, 1021.0)
    assert capsys.readouterr().err.splitlines() == [
        "step 110 of 200, loss 0.25000, 3 min left",
        "step 200 of 200, loss 0.12500, 0 s left",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(40.0, "40 s"), (720.0, "12 min"), (7500.0, "2 h 05 min")])
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert time_left(seconds) == text
