"""A dialog as its user meets it: in the middle, whole, keeping the focus, closed by Escape."""

from __future__ import annotations

from support.dashboard_browser import SIZES, Tab

_OPEN = "document.querySelector('dialog[open]')"
_BOX = f"""(() => {{
    const r = {_OPEN}.getBoundingClientRect();
    return [r.left, r.top, innerWidth - r.right, innerHeight - r.bottom];
}})()"""
_KEPT = f"document.activeElement === document.body || {_OPEN}.contains(document.activeElement)"
_STOPS = f"{_OPEN}.querySelectorAll('button, input, select').length"


def check_middle(tab: Tab) -> None:
    """The open dialog is whole on the screen, in its middle both ways."""
    tab.until(_OPEN)
    left, top, right, bottom = tab.page.evaluate(_BOX)
    assert abs(left - right) <= 2, (left, right)
    assert abs(top - bottom) <= 2, (top, bottom)
    assert min(left, top) >= 0, (left, top)


def check_dialog(tab: Tab) -> None:
    """The open dialog at all sizes; its focus, which the browser itself may have, and never the page; Escape."""
    for width, height in SIZES:
        tab.page.set_viewport_size({"width": width, "height": height})
        check_middle(tab)
    for _ in range(tab.page.evaluate(_STOPS) + 2):
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate(_KEPT)
    tab.page.keyboard.press("Escape")
    tab.until(f"!{_OPEN}")
