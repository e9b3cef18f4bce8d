from __future__ import annotations

import httpx
import pytest

from mindsight.bus import Bus, Log
from mindsight.protocol.inputs import AddEvent, parse_input
from support.rest import inputs, problem


@pytest.mark.parametrize("onset_s", [-24.5, -1.0, 20.0, 1e9])
def test_an_event_before_or_after_its_run_is_taken_as_planned(
    admin: httpx.Client, session: str, onset_s: float
) -> None:
    event = {"onset_s": onset_s, "duration_s": 1.0, "trial": 1}
    answer = admin.post(f"/v1/sessions/{session}/runs/1/events", json=event)
    assert answer.json() == {"added": 1, "duplicates": 0}


def test_an_event_that_no_volume_can_show_is_refused_and_none_with_it_is_added(
    admin: httpx.Client, bus: Bus, session: str
) -> None:
    events = [{"onset_s": onset_s, "duration_s": 1.0} for onset_s in (2.0, -25.0)]
    problem(admin.post(f"/v1/sessions/{session}/runs/1/events", json=events), 422, "event.outside_run")
    assert not any(key.startswith("event") for key in inputs(bus, session))


def test_a_bids_table_becomes_trials(admin: httpx.Client, bus: Bus, session: str) -> None:
    url = f"/v1/sessions/{session}/runs/1/events"
    table = "onset\tduration\ttrial_type\tstim_file\n0.5\t2\tface\tstimuli/img1.png\n4\t2\thouse\tn/a\n"
    tsv = {"Content-Type": "text/tab-separated-values; charset=utf-8"}
    assert admin.post(url, content=table, headers=tsv).json() == {"added": 2, "duplicates": 0}
    assert admin.post(url, content=table, headers=tsv).json() == {"added": 0, "duplicates": 2}
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    events = [entry for entry in entries if isinstance(entry, AddEvent)]
    assert [(e.trial, e.onset_s, e.label, e.candidate) for e in events] == [
        (1, 0.5, "face", "img1"),
        (2, 4.0, "house", None),
    ]
    changed = problem(admin.post(url, content=table.replace("face", "shoe"), headers=tsv), 409, "log.diverged")
    assert changed["details"] == {"key": "event-1-1"}
    assert "trial 1 of run 1" in changed["detail"]
    for kind in ("text/csv", "Text/Tab-Separated-Values", "text/plain; charset=utf-8"):
        answer = admin.post(url, content=table, headers={"Content-Type": kind})
        assert answer.json() == {"added": 0, "duplicates": 2}
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl --data-binary sends by itself
    unknown = problem(admin.post(url, content=table, headers=form), 422, "request.invalid")
    assert "text/tab-separated-values" in unknown["detail"]
    problem(admin.post(url, content="duration\n1\n", headers=tsv), 422, "events.columns")
    problem(admin.post(url, content=b"onset\tduration\n\xff\t1\n", headers=tsv), 422, "events.encoding")


@pytest.mark.parametrize(
    "body",
    [
        '{"onset_s": 1}',
        "[]x",
        "",
        "null",
        '{"onset_s": NaN, "duration_s": 1}',
        '{"onset_s": 1, "duration_s": 1, "x": 1}',
    ],
)
def test_a_malformed_event_is_refused(admin: httpx.Client, session: str, body: str) -> None:
    problem(admin.post(f"/v1/sessions/{session}/runs/1/events", content=body), 422, "request.invalid")
