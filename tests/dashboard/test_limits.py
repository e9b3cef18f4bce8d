"""The form for limits of quality, in a real browser: what it sends, what it says of nonsense, what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mindsight.protocol.messages import LimitsChanged
from support.dashboard_browser import Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_record import Record

OPEN = "document.querySelector('ms-signal dialog[open]')"
N = 90


@pytest.fixture(scope="module")
def changed_record(open_record: Record) -> Record:
    """The same session, with limits changed in the middle of the first run."""
    first = open_record.messages[0]
    change = LimitsChanged(
        id=N, session=first.session, t=open_record.messages[N - 1].t, fd_mm=0.9, limits={"fd_mm": 1.0, "spikes": "off"}
    )
    later = [m.model_copy(update={"id": m.id + 1}) for m in open_record.messages[N - 1 :]]
    return replace(open_record, messages=[*open_record.messages[: N - 1], change, *later])


@pytest.fixture(scope="module")
def feeder(changed_record: Record) -> Iterator[Feeder]:
    with Feeder([changed_record]) as feeder:
        yield feeder


def test_limits_are_set_by_a_form_and_shown(tab: Tab, feeder: Feeder, changed_record: Record) -> None:
    feeder.publish(changed_record.session, N - 1, last_was_s_ago=0.2)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={changed_record.session}")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")
    tab.page.click("ms-signal button.small")
    tab.until(OPEN)
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
    tab.page.keyboard.press("Enter")
    tab.until(f"!{OPEN}")
    assert feeder.limits == [{"fd_mm": 0.9, "limits": {"residual": 0.3, "spikes": "off"}}]

    feeder.publish(changed_record.session, N + 20)
    tab.until("document.querySelector('ms-events').textContent.includes('limits changed: censoring fd_mm 0.9')")
    tab.page.click("ms-signal button.small")
    tab.until(OPEN)
    assert tab.page.get_attribute("#limit-fd_mm", "placeholder") == "0.9"
    assert tab.page.get_attribute("#limit-spikes", "placeholder") == "off"
    tab.page.keyboard.press("Escape")
    tab.until(f"!{OPEN}")
    assert [problem for problem in tab.problems if "422" not in problem] == []


def test_a_closed_session_has_no_limits_to_set(tab: Tab, feeder: Feeder, changed_record: Record) -> None:
    feeder.publish(changed_record.session, len(changed_record.messages), last_was_s_ago=100)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={changed_record.session}")
    tab.until("document.querySelector('ms-signal button.small')?.hidden")
