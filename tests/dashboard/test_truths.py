"""What the Live page says at moments at which it is easy to say something untrue: nothing that is not known."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mindsight.protocol.messages import Reconstruction, Result, RunStarted, VolumeProcessed
from support.dashboard_browser import Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_moments import (
    hurried,
    placed,
    slow,
    without_bundle,
    without_declared_truth,
    without_drawing,
    without_motion,
)
from support.dashboard_record import Record, remade

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def records(open_record: Record, blinded_record: Record) -> dict[str, Record]:
    changes = {
        "ses-no-bundle": without_bundle,
        "ses-unmeasured": without_motion,
        "ses-undeclared": without_declared_truth,
        "ses-hurried": hurried,
        "ses-late": slow,
        "ses-failing": without_drawing,
    }
    made = {name: remade(open_record, name, change) for name, change in changes.items()}
    made["ses-no-bundle"] = placed(made["ses-no-bundle"], "first_volume")
    made["ses-target"] = remade(open_record, "ses-target", lambda message: message)
    made["ses-target"].usable_min = 8.0
    return {**made, "open": open_record, "blinded": blinded_record}


@pytest.fixture(scope="module")
def server(records: dict[str, Record]) -> Iterator[Feeder]:
    with Feeder(list(records.values())) as feeder:
        yield feeder


@pytest.fixture
def feeder(server: Feeder) -> Feeder:
    server.reset()
    return server


def _open(tab: Tab, feeder: Feeder, record: Record, n: int) -> None:
    feeder.publish(record.session, n, last_was_s_ago=0.2)
    tab.page.goto("about:blank")  # else only what follows # is another, and the session before is seen a moment longer
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")
    tab.until("document.querySelector('ms-header h1').textContent.startsWith('sub-')")
    tab.until_message(n)


def _first(record: Record, kind: type, start: int = 0, **where: object) -> int:
    """How many messages there are up to and with the first of a kind."""
    return next(
        n
        for n, m in enumerate(record.messages[start:], start + 1)
        if isinstance(m, kind) and all(getattr(m, name) == value for name, value in where.items())
    )


def test_while_it_is_drawn_the_last_reconstruction_stays_dimmed(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    record = records["open"]
    result = _first(record, Result, run=1, trial=2, stage="fast")
    drawn = _first(record, Reconstruction, run=1, trial=2, stage="fast", version="full")
    of_first = next(m for m in record.messages[:result][::-1] if isinstance(m, Reconstruction))
    _open(tab, feeder, record, result)
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 2 · run 1'")
    frame = "ms-trial .pair figure:last-child"
    tab.until(f"document.querySelector('{frame} .frame.drawing') !== null")
    assert tab.text(f"{frame} .over") == "drawing…"
    assert "dimmed: trial 1" in tab.text(frame)
    assert tab.page.get_attribute(f"{frame} img", "data-digest") == of_first.image
    assert "no reconstruction" not in tab.text("ms-trial")
    assert tab.text("ms-trial .fit .reading") == "–"  # the dimmed one's fit is not this trial's
    feeder.publish(record.session, drawn)
    tab.until(f"document.querySelector('{frame} .frame.drawing') === null")
    assert "Reconstruction · fast" in tab.text(frame)
    revised = _first(record, Result, start=drawn, run=1, trial=2, stage="revised")
    feeder.publish(record.session, revised)
    tab.page.keyboard.press("Home")
    tab.page.keyboard.press("ArrowRight")
    tab.until(f"document.querySelector('{frame} .frame.drawing') !== null")
    assert "Reconstruction · fast" in tab.text(frame)  # its own, of the earlier stage
    assert tab.problems == []


def test_a_reconstruction_that_cannot_be_made_is_not_being_drawn(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    record = records["ses-failing"]
    _open(tab, feeder, record, record.until(1, 10))
    tab.until("document.querySelector('ms-trial h2').textContent.startsWith('Trial 1')")
    assert "the card is away" in tab.text("ms-trial .pair figure:last-child")
    assert "drawing" not in tab.text("ms-trial")


def test_nothing_jumps_from_the_first_moment_to_the_last(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    record = records["open"]
    result = _first(record, Result, run=1, trial=2, stage="fast")
    moments = {
        "before the first volume": 1,
        "waiting": record.until(1, 6),
        "drawing": result,
        "drawn": result + 4,
        "between runs": _first(record, RunStarted, start=10) - 1,
        "over": len(record.messages),
    }
    tab.page.set_viewport_size({"width": 1366, "height": 768})
    first = ""
    for moment, n in moments.items():
        if not first:
            _open(tab, feeder, record, n)
        feeder.publish(record.session, n)
        tab.until_message(n)
        places = tab.page.evaluate(PLACES)
        first = first or places
        assert places.split("\n") == first.split("\n"), moment


PLACES = """[...document.querySelectorAll(
    '.live :is([role=region], .frame, figcaption, .fit, .track, .how, .plot, .readings, .budget, .strip, table)')]
    .filter((el) => el.checkVisibility())
    .map((el) => {
        const r = el.getBoundingClientRect();
        const side = [r.x, r.y, r.width, r.height].map(Math.round).join(' ');
        return `${el.closest('[role=region]').localName} ${el.className.split(' ')[0] || el.localName} ${side}`;
    }).join('\\n')"""


def test_each_stage_has_its_own_accuracy_which_stays(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    record = records["open"]
    end = _first(record, RunStarted, start=10) - 1
    _open(tab, feeder, record, record.until(1, 98))
    row = "ms-accuracy tbody tr:nth-child({})"
    tab.until("document.querySelector('ms-accuracy td.n').textContent === '12'")
    before = [tab.text(row.format(stage)) for stage in (1, 2, 3)]
    feeder.publish(record.session, end)
    tab.until("document.querySelector('ms-accuracy tr:nth-child(3) td.n').textContent === '12'")
    after = [tab.text(row.format(stage)) for stage in (1, 2, 3)]
    assert after[:2] == before[:2]
    assert before[2].split() == ["final", "–"]
    for text in after:
        assert re.fullmatch(r"(fast|revised|final)\s+\d\.\d\d\s+\d\.\d\d–\d\.\d\d\s+1\d", text), text
    assert "chance 0.01" in tab.text("ms-accuracy .aside")


def test_without_a_bundle_betas_are_shown_and_nothing_is_awaited(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    record = records["ses-no-bundle"]
    for n in (record.until(1, 6), record.until(1, 40), len(record.messages)):
        _open(tab, feeder, record, n)
        tab.until("document.querySelector('ms-trial h2').textContent.startsWith('Trial ')")
        words = tab.text(".live")
        assert "waiting for the response" not in words.replace("○ waiting for the response", "") or n == record.until(
            1, 6
        )
        assert "at calibration" not in words
        assert "to calibration" not in words
    assert "no bundle: betas are not decoded" in tab.text("ms-trial .pair figure:last-child")
    assert "● final beta, no bundle" in tab.text("ms-trial header")
    assert "no bundle" in tab.text("ms-candidates header")
    tab.page.keyboard.press("Home")
    tab.until("document.querySelector('ms-registration').textContent.includes('on the first volume')")
    assert tab.problems == []


def test_where_motion_was_not_measured_no_usable_share_and_no_motion_is_claimed(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    record = records["ses-unmeasured"]
    _open(tab, feeder, record, record.until(1, 40))
    tab.until("document.querySelector('ms-displacement').textContent.includes('motion not measured')")
    assert "%" not in tab.text("ms-displacement .aside")
    assert "motion is not measured in this run" in tab.text("ms-motion")
    assert "taken as they are" in tab.text("ms-registration")
    tab.page.keyboard.press("ArrowLeft")
    tab.until("document.querySelector('ms-trial .flag') !== null")
    assert tab.text("ms-trial .flag") == "⚑ spike"
    assert "sudden signal change" in tab.text("ms-events")
    assert "head moved" not in tab.text("ms-events")


def test_what_was_not_declared_is_hidden_from_nobody(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    record = records["ses-undeclared"]
    _open(tab, feeder, record, record.until(1, 10))
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 1 · run 1'")
    assert "the event does not say what was shown" in tab.text("ms-trial")
    words = tab.text(".live")
    assert "not sent" not in words
    assert "BLINDED" not in words
    assert tab.page.is_visible("ms-accuracy")
    assert "no result with its truth yet" in tab.text("ms-accuracy")


def test_only_a_blinded_viewer_is_told_that_it_is_not_sent(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    record = records["blinded"]
    for n in (1, record.until(1, 20)):
        _open(tab, feeder, record, n)
        assert "BLINDED" in tab.text("ms-header")
        assert not tab.page.is_visible("ms-accuracy")  # from the first moment: nothing moves when a trial comes
    assert "not sent to this client" in tab.text("ms-trial")


def test_a_record_that_is_sent_faster_than_real_time_is_not_late(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    n = records["open"].until(1, 40)
    _open(tab, feeder, records["ses-hurried"], n)
    tab.until("document.querySelector('ms-latency').textContent.includes('real time')")
    assert re.search(r"sent [78]\.\d × real time", tab.text("ms-latency"))
    assert "late:" not in tab.text("ms-latency")
    assert tab.page.query_selector("ms-latency .late") is None
    _open(tab, feeder, records["ses-late"], n)
    tab.until("document.querySelector('ms-latency .late') !== null")
    assert "▲ late: 9." in tab.text("ms-latency")


def test_the_minutes_that_are_still_needed_are_of_all_runs(
    tab: Tab, feeder: Feeder, records: dict[str, Record]
) -> None:
    record = records["ses-target"]
    _open(tab, feeder, record, len(record.messages))
    tab.until("document.querySelector('ms-displacement .aside').textContent.includes('min more')")
    used = sum(not m.censored for m in record.messages if isinstance(m, VolumeProcessed))
    assert f"{8 - used * 1.5 / 60:.1f} min more of 8" in tab.text("ms-displacement .aside")


def test_early_results_say_that_they_warm_up(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    record = records["open"]
    _open(tab, feeder, record, _first(record, Result, run=1, trial=3, stage="fast"))
    tab.until("document.querySelector('ms-candidates .warming-up')?.textContent === 'warming up, 3 of 6'")


def test_the_probability_is_beside_the_candidates_alone(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    record = records["open"]
    _open(tab, feeder, record, record.until(2, 63))
    tab.until("document.querySelector('ms-candidates .aside').textContent.includes('first of 100 right')")
    assert "right" not in tab.text("ms-trial")
    assert "confidence" not in tab.text("ms-trial").lower()
    assert "Token cosine" in tab.text("ms-trial .fit")
