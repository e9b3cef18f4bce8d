"""Parts of a task, added up to a share."""

from __future__ import annotations

from mindsight.shares import Shares, within
from support.reported import Reported


def test_parts_add_up_and_the_end_is_left_to_the_result() -> None:
    reported = Reported()
    shares = Shares(reported, 200)
    count = shares.of("reading")
    count(50)
    count(50)
    shares.add("writing", 100)
    assert reported.lines == [("reading", 0.25), ("reading", 0.5), ("writing", 0.99)]


def test_a_part_is_a_stretch_of_the_whole_and_nothing_to_do_is_no_fault() -> None:
    reported = Reported()
    Shares(within(reported, 0.5, 1.0), 4).add("fitting", 1)
    Shares(reported, 0).add("nothing", 0)
    assert reported.lines == [("fitting", 0.625), ("nothing", 0.0)]
