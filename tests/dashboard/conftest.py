"""A headless Chromium for the tests of a file, and a page of it for each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from dashboard_browser import ARGUMENTS, Tab
from dashboard_record import Record, Scanner


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Ends with its file: Playwright keeps an event loop in this thread, and other tests run loops of their own."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip(
            "needs chromium to look at the page (Debian: apt install chromium), which this machine does not have"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    yield Tab(page)
    page.close()


@pytest.fixture(scope="session")
def open_record() -> Record:
    return Scanner().session()


@pytest.fixture(scope="session")
def blinded_record() -> Record:
    """The same experiment as a viewer without the truth receives it."""
    return Scanner(blinded=True).session()
