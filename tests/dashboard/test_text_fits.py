"""At every size and moment each text, as wide as it can be, is where it belongs; axe-core has nothing to object to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mindsight.protocol.messages import Reconstruction, Result, RunPlaced, VolumeProcessed
from support.dashboard_axe import violations
from support.dashboard_browser import SIZES, Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_moments import placed, without_bundle
from support.dashboard_record import Record, remade, widest
from support.dashboard_text import misfits

EACH_MS = 8_888.0
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"  # of the slow form, to be looked at
LONG = "12.3 mm from the session's first volume, 88% of the voxels covered, margin 0.08 (at least 0.10), overlap 0.88"


@pytest.fixture(scope="module")
def records(open_record: Record, blinded_record: Record) -> dict[str, Record]:
    wide = widest(open_record, EACH_MS)
    wide = placed(wide, RunPlaced.model_fields["reference"].default, how="refused", displacement_mm=88.8, text=LONG)
    return {
        "wide": wide,
        "no bundle": remade(wide, "ses-no-bundle", without_bundle),
        "blinded": widest(blinded_record, EACH_MS),
    }


@pytest.fixture(scope="module")
def feeder(records: dict[str, Record]) -> Iterator[Feeder]:
    with Feeder(list(records.values())) as feeder:
        yield feeder


def _moments(records: dict[str, Record]) -> Iterator[tuple[str, Record, int]]:
    wide = records["wide"]
    kinds = {"processed": VolumeProcessed, "result": Result, "reconstruction": Reconstruction}
    first = {
        name: next(n for n, m in enumerate(wide.messages, 1) if isinstance(m, kind)) for name, kind in kinds.items()
    }
    yield "before the first volume", wide, 1
    yield "waiting", wide, first["processed"] + 1
    yield "drawing", wide, first["result"]
    yield "drawn", wide, first["reconstruction"] + 3
    yield "revised", wide, wide.until(2, 63)
    yield "finished", wide, len(wide.messages)
    yield "no bundle", records["no bundle"], len(records["no bundle"].messages) - 2
    yield "blinded", records["blinded"], records["blinded"].until(2, 63)


@pytest.mark.parametrize("sizes", [SIZES[-1:], pytest.param(SIZES, marks=pytest.mark.slow)], ids=["720", "all"])
def test_every_text_fits_at_every_moment(
    tab: Tab, feeder: Feeder, records: dict[str, Record], sizes: list[tuple[int, int]]
) -> None:
    feeder.reset()
    shown = None
    for moment, record, n in _moments(records):
        feeder.publish(record.session, n, last_was_s_ago=8_800.0)
        if record is not shown:
            tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
        shown = record
        tab.until_message(n)
        tab.until("[...document.querySelectorAll('.live img:not([hidden])')].every((img) => img.complete)")
        for width, height in sizes:
            tab.page.set_viewport_size({"width": width, "height": height})
            assert misfits(tab.page) == [], (moment, width, height)
            if len(sizes) > 1:
                tab.page.screenshot(path=SCREENSHOTS / f"{moment.replace(' ', '-')}-{width}.png")
    assert tab.problems == []


def test_a_text_that_does_not_fit_is_found(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    record = records["wide"]
    feeder.publish(record.session, len(record.messages), last_was_s_ago=8_800.0)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
    tab.until("document.querySelectorAll('ms-candidates img:not([hidden])').length === 8")
    assert misfits(tab.page) == []
    spoilt = {
        "leaves": "document.querySelector('ms-accuracy td').textContent = '0.123456789012'",
        "is cut without": "const span = document.querySelector('ms-latency .stage span');"
        "span.style = 'overflow: hidden; white-space: nowrap'; span.textContent = 'a name of a stage that is long'",
        "lie on each other": "document.querySelector('ms-motion h2').style.marginTop = '3rem'",
        "leaves its canvas": "(() => { const c = document.querySelector('ms-trials canvas').getContext('2d');"
        "c.fillText('12 censored', c.canvas.clientWidth - 9, 20); })()",
    }
    for fault, change in spoilt.items():
        tab.page.evaluate(f"() => {{ {change} }}")
        assert any(fault in misfit for misfit in misfits(tab.page)), fault


@pytest.mark.slow
def test_the_live_page_breaks_no_rule_of_axe(tab: Tab, feeder: Feeder, records: dict[str, Record]) -> None:
    feeder.reset()
    tab.page.goto(f"{feeder.url}/")
    tab.until("document.querySelector('.key-form') !== null")
    assert violations(tab.page) == []
    for moment, record, n in reversed(list(_moments(records))):
        feeder.publish(record.session, n, last_was_s_ago=8_800.0)
        tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
        tab.until_message(n)
        assert violations(tab.page) == [], moment
