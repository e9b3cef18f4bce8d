"""Where the head is, on the page: said when it is known, in red when it is not, with the picture to judge it by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from mindsight.protocol.messages import RunPlaced, VolumeProcessed
from support.dashboard_browser import SIZES, Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_record import Record

FITS = "document.documentElement.scrollHeight <= innerHeight && document.documentElement.scrollWidth <= innerWidth"
OVERFLOWING = """[...document.querySelectorAll('ms-place :is(.body, header, .row)')]
    .filter((el) => el.scrollHeight > el.clientHeight + 1 || el.scrollWidth > el.clientWidth + 1).length"""


def placed(record: Record, name: str, **of: object) -> Record:
    """The record with the first run's place said after its first volume."""
    told = Record(name, images=dict(record.images))
    image = told.add_image(Image.fromarray(np.full((532, 768, 3), 90, np.uint8)))
    values = {"how": "registered", "coverage": 1.0, "margin": 0.46, "overlap": 0.98, "text": "8.3 mm from the place"}
    for message in record.messages:
        told.add(message.model_copy(update={"session": name}))
        if isinstance(message, VolumeProcessed) and (message.run, message.index) == (1, 0):
            told.add(
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
    return told


@pytest.fixture(scope="module")
def records(open_record: Record) -> list[Record]:
    return [
        placed(open_record, "ses-placed"),
        placed(open_record, "ses-slab", how="session", coverage=0.77, margin=None),
        placed(open_record, "ses-refused", how="refused", margin=0.03),
    ]


@pytest.fixture(scope="module")
def feeder(records: list[Record]) -> Iterator[Feeder]:
    with Feeder(records) as feeder:
        yield feeder


def open_page(tab: Tab, feeder: Feeder, record: Record) -> None:
    feeder.publish(record.session, record.until(1, 40), last_was_s_ago=0.2)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
    tab.until("document.querySelector('ms-place')?.textContent.includes('mm away')")


def test_a_placed_run_says_so_and_shows_its_picture(tab: Tab, feeder: Feeder, records: list[Record]) -> None:
    open_page(tab, feeder, records[0])
    assert "registered to calibration" in tab.text("ms-place")
    assert "8.3 mm away · 100 % shown · margin 0.46" in tab.text("ms-place")
    assert "run 1 placed: 8.3 mm from the place" in tab.text("ms-events")
    for width, height in SIZES:
        tab.page.set_viewport_size({"width": width, "height": height})
        assert tab.page.evaluate(FITS), (width, height)
        assert tab.page.evaluate(OVERFLOWING) == 0, (width, height)
    tab.page.click("ms-place button")
    tab.until("document.querySelector('ms-place dialog[open] img')?.naturalWidth === 768")
    tab.page.keyboard.press("Escape")
    tab.until("!document.querySelector('ms-place dialog[open]')")
    assert tab.problems == []


def test_what_is_missing_or_not_to_be_believed_stands_out(tab: Tab, feeder: Feeder, records: list[Record]) -> None:
    open_page(tab, feeder, records[1])
    assert "77 % shown" in tab.text("ms-place")
    assert tab.page.get_attribute("ms-place", "data-level") == "poor"
    open_page(tab, feeder, records[2])
    tab.until("document.querySelector('ms-place').dataset.level === 'bad'")
    assert "NOT PLACED" in tab.text("ms-place")
