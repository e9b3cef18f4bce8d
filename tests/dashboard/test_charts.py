"""The charts over a run's volumes: one crosshair and one zoom for all of them; and the form for limits of quality."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mindsight.protocol.messages import LimitsChanged, VolumeProcessed
from support.dashboard_browser import TWO_FRAMES, Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_record import Record

pytestmark = pytest.mark.slow

FORM = "document.querySelector('ms-signal dialog[open]')"
N = 90
CHARTS = "ms-motion, ms-displacement, ms-signal"
CROSSHAIRS = f"""[...document.querySelectorAll(':is({CHARTS}) .u-over')].map((over) => {{
    const x = over.querySelector('.u-cursor-x');
    return x.classList.contains('u-off') ? null : Math.round(x.getBoundingClientRect().x);
}})"""
SCALES = """[...document.querySelectorAll('ms-displacement canvas')].flatMap((c) => c.painted.map((t) => t.words))"""


@pytest.fixture(scope="module")
def changed_record(open_record: Record) -> Record:
    """The same session, with limits changed in the middle of the first run."""
    record = Record("ses-changed", images=open_record.images)
    for message in open_record.messages:
        if message.id == N:
            record.add(
                LimitsChanged(
                    session=record.session,
                    t=message.t,
                    fd_mm=0.9,
                    limits={"fd_mm": 1.0, "spikes": "off"},
                    usable_min=20,
                )
            )
        record.add(message.model_copy(update={"session": record.session}))
    return record


@pytest.fixture(scope="module")
def feeder(open_record: Record, changed_record: Record) -> Iterator[Feeder]:
    with Feeder([open_record, changed_record]) as feeder:
        yield feeder


@pytest.fixture
def live(tab: Tab, feeder: Feeder, open_record: Record) -> Tab:
    n = open_record.until(2, 80)
    feeder.publish(open_record.session, n, last_was_s_ago=0.2)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={open_record.session}")
    tab.until_message(n)
    tab.until("document.querySelectorAll('ms-signal .u-over').length === 2")
    return tab


def _volume(record: Record, index: int) -> VolumeProcessed:
    volumes = (m for m in record.messages if isinstance(m, VolumeProcessed) and (m.run, m.index) == (2, index))
    return next(volumes)


def test_the_mouse_shows_one_volume_in_every_chart(live: Tab, open_record: Record) -> None:
    over = live.page.locator("ms-displacement .u-over").bounding_box()
    live.page.mouse.move(over["x"] + over["width"] * 0.405, over["y"] + over["height"] / 2)
    live.until("document.querySelector('ms-motion .aside').textContent.startsWith('volume ')")
    index = int(re.findall(r"volume (\d+)", live.text("ms-motion .aside"))[0])
    assert 39 <= index <= 42
    volume = _volume(open_record, index)
    assert volume.translation_mm is not None
    assert volume.fd_mm is not None
    x = f"{volume.translation_mm[0]:+.2f}".replace("-", "\u2212")
    assert live.text("ms-motion .chart li:first-child .value") == x
    assert live.text("ms-displacement .readings .value") == f"{volume.fd_mm:.2f}"
    assert f"volume {index}" in live.text("ms-displacement .aside")
    assert f"volume {index}" in live.text("ms-signal .aside")
    crosshairs = live.page.evaluate(CROSSHAIRS)
    assert len(crosshairs) == 5
    assert None not in crosshairs
    assert max(crosshairs) - min(crosshairs) <= 1
    live.page.mouse.move(5, 5)
    live.until("document.querySelector('ms-motion .aside').textContent.startsWith('now ')")
    assert live.problems == []


def test_a_drag_zooms_every_chart_and_a_double_click_shows_all(live: Tab) -> None:
    whole = live.page.evaluate(SCALES)
    over = live.page.locator("ms-motion .u-over").first.bounding_box()
    middle = over["y"] + over["height"] / 2
    live.page.mouse.move(over["x"] + over["width"] * 0.4, middle)
    live.page.mouse.down()
    live.page.mouse.move(over["x"] + over["width"] * 0.6, middle, steps=4)
    live.page.mouse.up()
    live.until("document.querySelector('ms-motion .aside').textContent.includes('zoomed')")
    live.page.evaluate(TWO_FRAMES)
    zoomed = live.page.evaluate(SCALES)
    assert "100" in whole
    assert "100" not in zoomed
    assert "50" in zoomed
    live.page.mouse.dblclick(over["x"] + over["width"] / 2, middle)
    live.until("!document.querySelector('ms-motion .aside').textContent.includes('zoomed')")
    live.page.evaluate(TWO_FRAMES)
    assert live.page.evaluate(SCALES) == whole


def test_keys_move_the_crosshair_and_zoom(live: Tab) -> None:
    live.page.mouse.move(5, 5)
    live.page.keyboard.press(",")
    live.until("document.querySelector('ms-signal .aside').textContent === 'volume 80'")
    live.page.keyboard.press(",")
    live.page.keyboard.press(",")
    live.until("document.querySelector('ms-signal .aside').textContent === 'volume 78'")
    live.page.keyboard.press("+")
    live.until("document.querySelector('ms-signal .aside').textContent.includes('zoomed')")
    live.page.keyboard.press("0")
    live.until("document.querySelector('ms-signal .aside').textContent === 'volume 78'")
    assert live.problems == []


def test_lines_are_told_apart_without_their_colour(live: Tab) -> None:
    for lines in ("ms-motion .dash", "ms-accuracy tbody .dash"):
        styles = f"[...document.querySelectorAll('{lines}')].map((el) => getComputedStyle(el).backgroundImage)"
        assert len(set(live.page.evaluate(styles)[:3])) == 3


def test_limits_are_set_by_a_form_and_shown(tab: Tab, feeder: Feeder, changed_record: Record) -> None:
    feeder.publish(changed_record.session, N - 1, last_was_s_ago=0.2)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={changed_record.session}")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")
    tab.page.click("ms-signal button.small")
    tab.until(FORM)
    assert tab.page.get_attribute("#limit-drift_percent", "placeholder") == "2"  # the session's own
    assert tab.page.get_attribute("#limit-spikes", "placeholder") == "0"  # the default
    tab.page.fill("#limit-residual", "a lot")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('ms-signal .problem').textContent.includes('neither a number nor')")
    assert feeder.limits == []
    tab.page.fill("#limit-residual", "-1")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('ms-signal .problem').textContent.includes('limits.residual: expected a number')")
    tab.page.fill("#limit-residual", "0,3")
    tab.page.fill("#limit-spikes", "off")
    tab.page.fill("#limit-fd_mm", "0.9")
    tab.page.fill("#limit-usable_min", "20")
    tab.page.keyboard.press("Enter")
    tab.until(f"!{FORM}")
    assert feeder.limits == [{"fd_mm": 0.9, "usable_min": 20.0, "limits": {"residual": 0.3, "spikes": "off"}}]

    feeder.publish(changed_record.session, N + 20)
    tab.until("document.querySelector('ms-events').textContent.includes('limits changed: censoring fd_mm 0.9')")
    assert "; usable data wanted: 20 min" in tab.text("ms-events")
    assert re.search(r"[\d.]+ min more of 20", tab.text("ms-displacement .aside"))
    tab.page.click("ms-signal button.small")
    tab.until(FORM)
    assert tab.page.get_attribute("#limit-fd_mm", "placeholder") == "0.9"
    assert tab.page.get_attribute("#limit-spikes", "placeholder") == "off"
    assert tab.page.get_attribute("#limit-usable_min", "placeholder") == "20"
    tab.page.keyboard.press("Escape")
    tab.until(f"!{FORM}")
    assert [problem for problem in tab.problems if "422" not in problem] == []


def test_a_closed_session_has_no_limits_to_set(tab: Tab, feeder: Feeder, changed_record: Record) -> None:
    feeder.publish(changed_record.session, len(changed_record.messages), last_was_s_ago=100)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={changed_record.session}")
    tab.until("document.querySelector('ms-signal button.small')?.hidden")
