"""A page used without a mouse, and looked at for what keeps people from using it. Knows nothing of what is on it."""

from __future__ import annotations

from typing import Any

from support.dashboard_axe import violations
from support.dashboard_browser import Tab

MOST_TABS = 80


def go_to(tab: Tab, selector: str) -> None:
    """Press Tab until the element has the focus; fails where the keyboard does not lead to it."""
    page = tab.page
    for _ in range(MOST_TABS):
        if page.evaluate("(wanted) => document.activeElement?.matches(wanted) ?? false", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not lead to {selector}, but to {focused(page)}")


def press(tab: Tab, selector: str) -> None:
    """Go to a button or a link, and press it."""
    go_to(tab, selector)
    tab.page.keyboard.press("Enter")


def write(tab: Tab, selector: str, text: str) -> None:
    """Go to a field, and write into it."""
    go_to(tab, selector)
    tab.page.keyboard.press("Control+A")
    tab.page.keyboard.type(text)


def choose(tab: Tab, selector: str, start: str) -> None:
    """Go to a list of choices, and choose the one that begins so."""
    go_to(tab, selector)
    tab.page.keyboard.type(start)


def hold(tab: Tab, key: str, until: str) -> None:
    """Hold a key until an expression holds."""
    tab.page.keyboard.down(key)
    tab.until(until)
    tab.page.keyboard.up(key)


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement?.outerHTML.slice(0, 120)"))


def check_accessible(tab: Tab) -> None:
    """No violation of the rules of axe-core on the page as it is now."""
    found = violations(tab.page)
    assert not found, "\n".join(found)
