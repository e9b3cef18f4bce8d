"""The one rule of which events are trials, and that every way goes by it."""

from __future__ import annotations

import pytest

from mindsight.events import (
    DeclaredEvent,
    RunEvent,
    candidate_of,
    declare,
    parse_events_tsv,
    read_events_table,
    trials_after,
    unmeasured,
)
from mindsight.operations.replay import number_trials

TABLE = """\
onset\tduration\ttrial_type\tstim_file
0\t10\tn/a\tn/a
10\t2\tface\timg/f1.png
20\t2\tn/a\timg/h1.png
30\t8\trest\tn/a
"""


def test_a_row_that_names_what_was_shown_is_a_trial() -> None:
    declared = declare(parse_events_tsv(TABLE))
    assert [event.trial for event in declared.events] == [None, 1, 2, 3]
    assert [(event.label, event.stim_file) for event in declared.events[1:]] == [
        ("face", "img/f1.png"),
        (None, "img/h1.png"),
        ("rest", None),
    ]
    assert declared.notes == ()


def test_what_is_asked_of_trials_does_not_change_their_numbers() -> None:
    events = parse_events_tsv(TABLE)
    by_kind, by_picture = number_trials(events, "trial_type"), number_trials(events, "stim_file")
    assert by_kind.events == by_picture.events
    assert by_kind.labels == {1: "face", 3: "rest"}
    assert by_picture.labels == {1: "img/f1.png", 2: "img/h1.png"}
    assert by_kind.onsets_s == {1: 10.0, 2: 20.0, 3: 30.0}


def test_where_no_row_names_what_was_shown_each_is_a_trial() -> None:
    assert [event.trial for event in declare([RunEvent(0.0, 3.0), RunEvent(4.0, 3.0)]).events] == [1, 2]


def test_the_order_of_rows_does_not_matter_and_that_of_one_moment_stays() -> None:
    rows = [RunEvent(8.0, 1.0, "b"), RunEvent(2.0, 1.0, "a"), RunEvent(8.0, 0.0, "c"), RunEvent(5.0, 0.0)]
    declared = declare(rows).events
    assert [(event.onset_s, event.label, event.trial) for event in declared] == [
        (2.0, "a", 1),
        (5.0, None, None),
        (8.0, "b", 2),
        (8.0, "c", 3),
    ]
    assert declare(sorted(rows, key=lambda row: row.onset_s)).events == declared


def test_equal_events_are_distinguished_and_equal_trials_are_two() -> None:
    press, face = RunEvent(2.0, 0.0), RunEvent(4.0, 1.0, "face")
    declared = declare([press, press, RunEvent(2.0, 1.0), face, face, press]).events
    assert [(event.trial, event.occurrence) for event in declared] == [
        *((None, 1), (None, 2), (None, 1), (None, 3)),
        *((1, 1), (2, 1)),
    ]


def test_events_before_the_run() -> None:
    table = read_events_table(
        "onset\tduration\ttrial_type\n-60\t2\ta\n-30\t45\tblock\n-20\t1\tb\n-2.5\t2\tface\n-25\t0\tn/a\n6\t2\thouse\n"
    )
    declared = declare(table.events)
    assert [(round(event.onset_s, 1), round(event.duration_s, 1), event.trial) for event in declared.events] == [
        (-24.0, 39.0, 2),
        (-20.0, 1.0, None),
        (-2.5, 2.0, 4),
        (6.0, 2.0, 5),
    ]
    assert [note.code for note in declared.notes] == ["events.too_early", "events.unseen"]
    assert "lines 2, 6 left out" in declared.notes[0].text
    assert "line 4 modelled" in declared.notes[1].text
    assert [event.trial for event in number_trials(table.events, "trial_type").events] == [2, None, 4, 5]


def test_trials_that_a_run_does_not_reach() -> None:
    events = [DeclaredEvent(t, 1.0, k, "x", None) for k, t in enumerate((3.0, 38.0, 38.5, 60.0), 1)]
    assert trials_after(events, 20, 2.0) == [2, 3, 4]
    (note,) = unmeasured(3, [2, 3, 4])
    assert "run 3" in note.text
    assert "trials 2, 3, 4" in note.text
    assert unmeasured(3, []) == ()


@pytest.mark.parametrize(
    ("shown", "ids", "named"),
    [
        ("images/cat.png", {"cat", "dog"}, "cat"),
        ("images/cat.png", {"images/cat", "images/dog"}, "images/cat"),
        ("images/cat.png", {"images/cat.png"}, "images/cat.png"),
        ("face", {"face", "house"}, "face"),
        ("images/cow.png", {"cat"}, "images/cow.png"),
    ],
)
def test_an_images_name_means_what_the_pool_calls_it(shown: str, ids: set[str], named: str) -> None:
    assert candidate_of(shown, ids) == named


def test_the_numbers_and_candidates_of_our_archives_hold() -> None:
    header = "onset\tduration\ttrial_type\ttrial\tstim_file\tstimulus\tcandidate\n"
    rows = "2\t1\tface\t7\t0f.png\t0f\timg/f1\n4\t1\trest\tn/a\tn/a\tn/a\tn/a\n6\t1\tface\t3\t0e.png\t0e\timg/f2\n"
    declared = declare(parse_events_tsv(header + rows)).events
    assert [(event.trial, event.stim_file) for event in declared] == [(7, "img/f1"), (None, None), (3, "img/f2")]
    # another program's column of the same name says something else, and so do numbers that come twice
    other = parse_events_tsv("onset\tduration\ttrial_type\ttrial\n2\t1\tface\t7\n4\t1\thouse\t7\n")
    twice = parse_events_tsv(header + rows.replace("\t3\t", "\t7\t"))
    assert [event.trial for event in declare(other).events] == [1, 2]
    assert [event.trial for event in declare(twice).events] == [1, 2, 3]
