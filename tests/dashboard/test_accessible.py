"""axe-core finds nothing to object to on the live page, at several moments, nor on the form before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.dashboard_axe import violations
from support.dashboard_browser import Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_moments import placed, without_bundle, without_motion
from support.dashboard_record import Record, remade


@pytest.fixture(scope="module")
def records(open_record: Record, blinded_record: Record) -> list[Record]:
    unmeasured = remade(remade(open_record, "ses-bare", without_bundle), "ses-bare", without_motion)
    return [placed(open_record, "calibration", how="refused"), blinded_record, unmeasured]


@pytest.fixture(scope="module")
def feeder(records: list[Record]) -> Iterator[Feeder]:
    with Feeder(records) as feeder:
        yield feeder


def test_the_live_page_breaks_no_rule_of_axe(tab: Tab, feeder: Feeder, records: list[Record]) -> None:
    tab.page.goto(f"{feeder.url}/")
    tab.until("document.querySelector('.key-form') !== null")
    assert violations(tab.page) == []
    whole, blinded, bare = records
    moments = [(whole, 2), (whole, whole.until(2, 63)), (blinded, blinded.until(1, 40)), (bare, len(bare.messages))]
    for record, n in moments:
        feeder.publish(record.session, n, last_was_s_ago=4.0)
        tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
        tab.until(f"document.querySelector('.live')?.dataset.last === '{n}'")
        assert violations(tab.page) == [], (record.session, n)
