"""The timing of a live run, compared with its clock from the first volume on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mindsight.scanner.assembly.runs import Runs
from mindsight.scanner.transports import Expected, Item
from mindsight.volume import Volume
from support.taking import codes, ends, volumes, warnings_in

MULTIBAND, SINGLE = [0.0, 0.5, 1.0, 0.0, 0.5, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]


def volume(index: int, acquired_s: float | None, tr_s: float, times: Sequence[float] | None = None) -> Volume:
    times_Z = None if times is None else np.array(times)
    data = np.zeros((2, 3, 6), np.int16)
    return Volume(data, np.eye(4), tr_s, 1, index, acquired_s=acquired_s, slice_times_s=times_Z)


def sent(
    moments_s: Sequence[float | None],
    header_s: float,
    declared_s: float | None = None,
    times: Sequence[Sequence[float] | None] | None = None,
) -> list[Item]:
    runs = Runs(Expected(tr_s=declared_s), 1.0)
    items: list[Item] = []
    for k, moment_s in enumerate(moments_s):
        acquired_s = None if moment_s is None else 1.7e9 + 0.37 + moment_s
        items += runs.add("a", k, volume(k, acquired_s, header_s, None if times is None else times[k]), 0.0)
    return [*items, *runs.finish()]


def even(step_s: float, n: int = 6) -> list[float]:
    return [step_s * k for k in range(n)]


@pytest.mark.parametrize(
    ("moments_s", "header_s", "tr_s", "warned"),
    [
        (even(2.0), 2.0, 2.0, []),
        (even(2.1), 0.35, 2.1, ["volume.tr"]),
        (even(2.5), 2.0, 2.5, ["volume.tr"]),
        (even(2.1, 2), 0.35, 2.1, ["volume.tr"]),  # a run of two volumes
        (
            [0.0, 2.7, 4.7, 6.7, 8.7],
            2.0,
            2.0,
            ["volume.tr"],
        ),  # the first volume was early: one odd step decides nothing
        ([*even(2.0, 4), 9.3, *[2.0 * k for k in range(5, 8)]], 2.0, 2.0, []),
        (even(0.0), 2.0, 2.0, []),  # GE
        ([None] * 5, 2.0, 2.0, []),
    ],
)
def test_all_volumes_have_the_pace_of_the_clock(
    moments_s: list[float], header_s: float, tr_s: float, warned: list[str]
) -> None:
    items = sent(moments_s, header_s)
    assert [v.tr_s for v in volumes(items)] == [tr_s] * len(moments_s)
    assert [v.index for v in volumes(items)] == list(range(len(moments_s)))
    assert [code for code in codes(items) if code.startswith("volume.tr")] == warned
    assert [ended.n_volumes for ended in ends(items)] == [len(moments_s)]


def test_a_clock_that_comes_to_contradict_the_run_is_reported_once() -> None:
    items = sent([*even(2.0, 2), *[2.0 + 3.0 * k for k in range(1, 12)]], 2.0)
    warned = [warning for warning in warnings_in(items) if warning.code == "volume.tr_mismatch"]
    assert len(warned) == 1
    assert "3 s apart" in warned[0].text
    assert "2 s (TR)" in warned[0].text
    assert len(volumes(items)) == 13


@pytest.mark.parametrize(
    ("moments_s", "header_s", "declared_s", "taken"),
    [
        (even(2.1), 0.35, 2.1, True),  # the header is wrong, the person and the clock are right
        (even(2.0), 2.0, 1.5, False),
        (even(2.0), 1.5, 1.5, False),
        (even(0.0), 2.0, 1.5, False),
        ([None] * 5, 2.0, 1.5, False),
        ([None] * 5, 2.0, 2.0005, True),
    ],
)
def test_what_a_person_declares_must_be_the_clocks(
    moments_s: list[float | None], header_s: float, declared_s: float, taken: bool
) -> None:
    items = sent(moments_s, header_s, declared_s)
    if taken:
        assert {v.tr_s for v in volumes(items)} == {declared_s}
        return
    assert volumes(items) == []
    assert codes(items) == ["series.ignored"]
    assert f"{declared_s:g} s" in warnings_in(items)[0].text


@pytest.mark.parametrize("odd", [0, 3])
def test_slice_times_of_one_odd_volume(odd: int) -> None:
    items = sent(even(1.5), 1.5, times=[SINGLE if k == odd else MULTIBAND for k in range(6)])
    for k, one in enumerate(volumes(items)):
        if odd == 0 and k < 2:  # it is not known yet which of the two is wrong
            assert one.slice_times_s is None
        else:
            np.testing.assert_allclose(one.slice_times_s, MULTIBAND)
    assert codes(items) == ["volume.slice_times"]


@pytest.mark.parametrize("times", [[0.0] * 6, [0.5 * k for k in range(6)], [0, 0, 0, 0.5, 1, 1], SINGLE[:5]])
def test_slice_times_that_cannot_be_are_reported_once(times: list[float]) -> None:
    items = sent(even(1.5), 1.5, times=[times] * 6)
    assert [one.slice_times_s is None for one in volumes(items)] == [True] * 6
    assert codes(items) == ["volume.slice_times"]


def test_the_first_volume_has_those_of_the_second_where_it_states_none() -> None:
    """GE's slice clock starts within the first volume."""
    items = sent(even(0.0), 1.5, times=[None, *[MULTIBAND] * 5])
    assert all(np.allclose(one.slice_times_s, MULTIBAND) for one in volumes(items) if one.slice_times_s is not None)
    assert len([one for one in volumes(items) if one.slice_times_s is not None]) == 6
    assert codes(items) == []


def test_slice_times_within_the_measured_tr_are_kept() -> None:
    """A header that states the time of a slice would call all of them too late."""
    items = sent(even(2.1), 0.35, times=[[0.35 * k for k in range(6)]] * 6)
    assert all(one.slice_times_s is not None for one in volumes(items))
