"""The run's registration on the page: figures and image when it is known, red when it was refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from mindsight.protocol.messages import RunPlaced, VolumeProcessed
from support.dashboard_browser import SIZES, Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_record import Record
from support.dialogs import check_middle

pytestmark = pytest.mark.slow

FITS = "document.documentElement.scrollHeight <= innerHeight && document.documentElement.scrollWidth <= innerWidth"
OVERFLOWING = """[...document.querySelectorAll('ms-registration :is(.body, header, .row)')]
    .filter((el) => el.scrollHeight > el.clientHeight + 1 || el.scrollWidth > el.clientWidth + 1).length"""


def registered(record: Record, name: str, **of: object) -> Record:
    """The record with the first run's registration after its first volume."""
    published = Record(name, images=dict(record.images))
    image = published.add_image(Image.fromarray(np.full((532, 768, 3), 90, np.uint8)))
    values = {"how": "registered", "coverage": 1.0, "margin": 0.46, "overlap": 0.98, "text": "8.3 mm away"}
    for message in record.messages:
        published.add(message.model_copy(update={"session": name}))
        if isinstance(message, VolumeProcessed) and (message.run, message.index) == (1, 0):
            published.add(
                RunPlaced(
                    session=name,
                    t=message.t,
                    run=1,
                    index=0,
                    reference_to_run=tuple(np.eye(4).ravel().tolist()),
                    displacement_mm=8.3,
                    image=image,
                    **{**values, **of},
                )
            )
    return published


@pytest.fixture(scope="module")
def records(open_record: Record) -> list[Record]:
    return [
        registered(open_record, "ses-registered"),
        registered(open_record, "ses-slab", how="session", coverage=0.77, margin=None),
        registered(open_record, "ses-refused", how="refused", margin=0.03),
    ]


@pytest.fixture(scope="module")
def feeder(records: list[Record]) -> Iterator[Feeder]:
    with Feeder(records) as feeder:
        yield feeder


def open_page(tab: Tab, feeder: Feeder, record: Record) -> None:
    feeder.publish(record.session, record.until(1, 40), last_was_s_ago=0.2)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
    tab.until("document.querySelector('ms-registration')?.textContent.includes('mm away')")


def test_a_registered_run_shows_figures_and_image(tab: Tab, feeder: Feeder, records: list[Record]) -> None:
    open_page(tab, feeder, records[0])
    assert "registered to calibration" in tab.text("ms-registration")
    assert "8.3 mm away · 100 % covered · margin 0.46" in tab.text("ms-registration")
    assert "run 1 registered: 8.3 mm away" in tab.text("ms-events")
    for width, height in SIZES:
        tab.page.set_viewport_size({"width": width, "height": height})
        assert tab.page.evaluate(FITS), (width, height)
        assert tab.page.evaluate(OVERFLOWING) == 0, (width, height)
    tab.page.click("ms-registration button")
    tab.until("document.querySelector('ms-registration dialog[open] img')?.naturalWidth === 768")
    check_middle(tab)
    tab.page.keyboard.press("Escape")
    tab.until("!document.querySelector('ms-registration dialog[open]')")
    assert tab.problems == []


def test_low_coverage_and_refusal_stand_out(tab: Tab, feeder: Feeder, records: list[Record]) -> None:
    open_page(tab, feeder, records[1])
    assert "77 % covered" in tab.text("ms-registration")
    assert tab.page.get_attribute("ms-registration", "data-level") == "poor"
    open_page(tab, feeder, records[2])
    tab.until("document.querySelector('ms-registration').dataset.level === 'bad'")
    assert "NOT REGISTERED" in tab.text("ms-registration")
