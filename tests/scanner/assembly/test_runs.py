"""Which series is a run, and in which order its volumes are sent: no files, no sockets, time is an argument."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.scanner.assembly.candidates import PLAIN, Origin
from mindsight.scanner.assembly.families import Family
from mindsight.scanner.assembly.runs import Runs
from mindsight.scanner.assembly.sequence import Sequencer
from mindsight.scanner.transports import Expected, Item, RunEnded
from mindsight.volume import Volume
from support.taking import codes, ends, places, warnings_in


def volume(value: int = 0, shape: tuple[int, int, int] = (2, 3, 4), tr_s: float = 2.0, run: int = 1) -> Volume:
    return Volume(
        np.full(shape, value % 1000, np.int16), np.eye(4), tr_s, run, max(value, 0), acquired_s=100.0 + tr_s * value
    )


def send(runs: Runs, series: str, numbers: list[int], now_s: float = 0.0, origin: Origin = PLAIN) -> list[Item]:
    return [item for number in numbers for item in runs.add(series, number, volume(number), now_s, origin=origin)]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_each_index_is_sent_once_and_in_order(data: st.DataObject) -> None:
    """Whatever is lost, doubled, late or early: volumes and missing marks are 0, 1, 2, ... without a gap."""
    n = data.draw(st.integers(1, 40))
    sent = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=60))
    order, items, now_s = Sequencer(3, late_s=1.0), [], 0.0
    for index in sent:
        now_s += data.draw(st.floats(0.0, 0.7))
        items += [*order.put(volume(index, run=3), now_s), *order.tick(now_s)]
    items += order.end()
    settled = [item.index for item in items if isinstance(item, Volume) or getattr(item, "missing", False)]
    assert settled == list(range(max(sent) + 1))
    assert [item.index for item in items if isinstance(item, Volume)] == sorted(
        {item.index for item in items if isinstance(item, Volume)}
    )
    assert {item.index for item in items if isinstance(item, Volume)} <= set(sent)
    dropped = [code for code in codes(items) if code in ("volume.late", "volume.doubled")]
    assert len(dropped) + sum(isinstance(item, Volume) for item in items) == len(sent)
    assert items[-1] == RunEnded(3, max(sent) + 1)


def test_no_volume_waits_longer_than_the_deadline() -> None:
    order = Sequencer(1, late_s=2.0)
    assert places(order.put(volume(0), 0.0)) == [(1, 0)]
    assert order.put(volume(2), 1.0) == []
    assert order.put(volume(3), 2.5) == []
    assert order.tick(2.9) == []
    items = order.tick(3.0)
    assert [(warning.code, warning.index, warning.missing) for warning in warnings_in(items)] == [
        ("volume.missing", 1, True)
    ]
    assert places(items) == [(1, 2), (1, 3)]
    assert codes(order.put(volume(1), 3.1)) == ["volume.late"]


def test_what_is_held_back_is_bounded() -> None:
    size = volume().data.nbytes
    order = Sequencer(1, late_s=1e9, max_held_bytes=30 * size)
    assert [item for k in range(1, 31) for item in order.put(volume(k), 0.0)] == []
    assert places(order.put(volume(31), 0.0)) == [(1, k) for k in range(1, 32)]
    assert codes(order.put(volume(10_000_000), 0.0)) == ["volume.number"]


def test_a_series_is_a_run_from_its_second_volume_on() -> None:
    runs = Runs(Expected(), 1.0)
    assert send(runs, "scout", [0]) == []
    assert send(runs, "run", [0]) == []
    items = send(runs, "run", [1])
    assert codes(items) == ["series.ignored"]
    assert places(items) == [(1, 0), (1, 1)]
    assert places(send(runs, "run", [2])) == [(1, 2)]
    assert runs.finish() == [RunEnded(1, 3)]


def test_a_restarted_run_is_the_next_and_the_stopped_one_ends() -> None:
    runs = Runs(Expected(n_volumes=5), 1.0, run=4)
    send(runs, "a", [0, 1, 2])
    send(runs, "b", [0])
    assert places(send(runs, "a", [3])) == [(4, 3)]  # the last of the stopped one came late
    items = send(runs, "b", [1, 2])
    assert codes(items) == ["run.short"]
    assert ends(items) == [RunEnded(4, 4)]
    assert places(items) == [(5, 0), (5, 1), (5, 2)]
    assert codes(send(runs, "a", [4])) == ["volume.after_end"]
    assert ends(send(runs, "b", [3, 4])) == [RunEnded(5, 5)]
    assert runs.finish() == []


def test_a_series_beside_the_run_is_ignored_once() -> None:
    runs = Runs(Expected(), 1.0)
    send(runs, "a", [0, 1])
    items = [item for k in range(2, 12) for item in send(runs, "a", [k]) + send(runs, "double", [k])]
    assert places(items) == [(1, k) for k in range(2, 12)]
    assert codes(items) == ["series.parallel"]


def test_a_whole_run_in_a_file_does_not_end_the_one_that_comes_volume_by_volume() -> None:
    """A converter may write the run before into the folder that is watched."""
    runs = Runs(Expected(), late_s=3.0)
    items = send(runs, "live", [0, 1, 2])
    for k in range(3):
        items += runs.add("file", k, volume(k), 0.0, is_run=True)
    items += runs.end("file") + send(runs, "live", [3, 4])
    assert [item.index for item in items if isinstance(item, Volume)] == [0, 1, 2, 3, 4]
    assert codes(items) == ["series.parallel"]
    items = runs.end("live") + runs.add("other file", 0, volume(0), 0.0, is_run=True)
    assert [item.run for item in items if isinstance(item, Volume)] == [2]


@pytest.mark.parametrize(
    ("expected", "words"),
    [(Expected(shape=(2, 3, 5)), "2×3×5"), (Expected(tr_s=1.0), "TR of 1 s")],
)
def test_what_is_not_expected_is_ignored_and_gives_the_reason(expected: Expected, words: str) -> None:
    runs = Runs(expected, 1.0)
    items = send(runs, "a", [0, 1, 2])
    assert codes(items) == ["series.ignored"]
    assert words in warnings_in(items)[0].text
    assert runs.finish() == []


def test_a_changed_shape_is_reported_and_its_volume_missing() -> None:
    runs = Runs(Expected(), 1.0)
    send(runs, "a", [0, 1])
    items = [*runs.add("a", 2, volume(2, shape=(2, 3, 5)), 0.0), *send(runs, "a", [3]), *runs.tick(1.0)]
    assert codes(items) == ["volume.shape_mismatch", "volume.missing"]
    assert places(items) == [(1, 3)]


def test_volumes_before_the_first_that_came_are_missing() -> None:
    runs = Runs(Expected(), 1.0)
    items = [*send(runs, "a", [2, 3]), *runs.tick(1.0)]
    assert [warning.index for warning in warnings_in(items) if warning.missing] == [0, 1]
    assert places(items) == [(1, 2), (1, 3)]


def test_a_clock_that_stands_still_is_none() -> None:
    runs = Runs(Expected(), 1.0)
    still = Volume(np.zeros((2, 3, 4), np.int16), np.eye(4), 2.0, 1, 0, acquired_s=100.0)
    items = [item for k in range(3) for item in runs.add("a", k, still, 0.0)]
    assert [item.acquired_s for item in items if isinstance(item, Volume)] == [None] * 3
    runs = Runs(Expected(), 1.0)
    items = send(runs, "a", [0, 1, 2])
    assert [item.acquired_s for item in items if isinstance(item, Volume)] == [100.0, 102.0, 104.0]


@settings(max_examples=100, deadline=None)
@given(
    sent=st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.integers(-3, 2**31)), max_size=60),
)
def test_nonsense_numbers_and_many_series_are_bounded(sent: list[tuple[str, int]]) -> None:
    runs = Runs(Expected(), 1.0)
    items = [item for series, number in sent for item in runs.add(series, number, volume(0), 0.0)]
    items += runs.finish()
    assert len(items) < 3000 + 2 * len(sent)
    assert [(end.run) for end in ends(items)] == list(range(1, len(ends(items)) + 1))


FIRST, OTHER = (
    Origin(family=Family("grid")),
    Origin(family=Family("grid")),
)  # as the assembler distinguishes DICOM series


def test_what_was_acquired_at_the_same_time_is_a_run_once_the_first_has_fallen_silent() -> None:
    """As a recording that is played twice: only silence distinguishes it from a parallel series."""
    runs = Runs(Expected(), late_s=3.0)
    items = send(runs, "first", [0, 1, 2, 3, 4], 0.0, FIRST)
    items += send(runs, "again", [0, 1, 2], 0.5, OTHER)
    assert places(items) == [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]
    assert runs.tick(4.9) == []
    items = runs.tick(5.1)
    assert ends(items) == [RunEnded(1, 5)]
    assert places(items) == [(2, 0), (2, 1), (2, 2)]
    assert places(send(runs, "again", [3], 5.2, OTHER)) == [(2, 3)]


def test_what_was_acquired_at_the_same_time_is_left_when_the_first_goes_on() -> None:
    runs = Runs(Expected(), late_s=3.0)
    items = send(runs, "first", [0, 1, 2, 3, 4], 0.0, FIRST)
    items += send(runs, "beside", [1, 2], 0.5, OTHER)
    items += send(runs, "first", [5], 2.0, FIRST)
    items += send(runs, "beside", [3], 2.1, OTHER)
    items += send(runs, "first", [6], 4.0, FIRST)
    items += runs.finish()
    assert places(items) == [(1, index) for index in range(7)]
    assert codes(items) == ["series.ignored"]
