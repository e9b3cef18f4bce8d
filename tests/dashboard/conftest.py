"""A headless Chromium and a page of it for the tests of a file, and for each test the page as a new one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from support.dashboard_browser import ARGUMENTS, Tab
from support.dashboard_record import Record, Scanner
from support.dashboard_text import REMEMBER_PAINTED_TEXT


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


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """One for a file: a page of its own for each test, a process of the browser, would cost more than the test."""
    page = browser.new_page()
    page.set_default_timeout(120_000)  # a machine that does much else is slow, not wrong
    page.add_init_script(REMEMBER_PAINTED_TEXT)
    yield page
    page.close()


@pytest.fixture
def tab(page: Any) -> Iterator[Tab]:
    """The page as a new one: large, at no address, with nothing kept."""
    page.set_viewport_size({"width": 1920, "height": 1080})
    with Tab(page).listening() as tab:
        yield tab
        page.evaluate("sessionStorage.clear()")
        page.goto("about:blank")


@pytest.fixture(scope="session")
def open_record() -> Record:
    return Scanner().session()


@pytest.fixture(scope="session")
def blinded_record() -> Record:
    """The same experiment as a viewer without the truth receives it."""
    return Scanner(blinded=True).session()
