"""Plots as SVG: points with intervals, lines, bands and bars on two axes, in the dashboard's colours.

Knows nothing of what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 14, 46
BLUE, ORANGE, GREY, GREEN = "#5aa9e6", "#e68c3c", "#7d8998", "#6fbf73"
_Point = tuple[float, float]


class Plot:
    """One plot. x, y : lowest and highest value of the axes. log_x : a logarithmic x axis."""

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        x_title: str,
        y_title: str,
        log_x: bool = False,
        percent_x: bool = False,
        percent_y: bool = True,
    ) -> None:
        self._title, self._x_title, self._y_title = title, x_title, y_title
        self._x, self._y, self._log_x = x, y, log_x
        self._format_x: Callable[[float], str] = _percent if percent_x else _plain
        self._format_y: Callable[[float], str] = _percent if percent_y else _plain
        self._drawn: list[str] = []
        self._legend: list[tuple[str, str]] = []

    def line(self, points: Sequence[_Point], colour: str, name: str = "", *, dashed: bool = False) -> None:
        """Straight from point to point."""
        path = " ".join(f"{self._at_x(x):.1f},{self._at_y(y):.1f}" for x, y in points)
        dash = " stroke-dasharray='4 4'" if dashed else ""
        self._drawn.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'{dash}/>")
        self._name(name, colour)

    def band(self, points: Sequence[tuple[float, float, float]], colour: str) -> None:
        """Between a low and a high y at each x."""
        low = [f"{self._at_x(x):.1f},{self._at_y(low):.1f}" for x, low, _ in points]
        high = [f"{self._at_x(x):.1f},{self._at_y(high):.1f}" for x, _, high in reversed(points)]
        self._drawn.append(f"<polygon points='{' '.join(low + high)}' fill='{colour}' fill-opacity='0.18'/>")

    def points(
        self,
        points: Sequence[tuple[float, float, float, float]],
        colour: str,
        name: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        """At x and y, with an interval from low to high; notes are shown when pointed at."""
        for i, (x, y, low, high) in enumerate(points):
            at = self._at_x(x)
            note = f"<title>{escape(notes[i])}</title>" if notes else ""
            self._drawn.append(
                f"<g>{note}<line x1='{at:.1f}' x2='{at:.1f}' y1='{self._at_y(low):.1f}' y2='{self._at_y(high):.1f}'"
                f" stroke='{colour}'/><circle cx='{at:.1f}' cy='{self._at_y(y):.1f}' r='3.5' fill='{colour}'/></g>"
            )
        self._name(name, colour)

    def bars(self, edges: Sequence[float], heights: Sequence[float], colour: str) -> None:
        """From each edge to the next, from the bottom of the plot."""
        floor = self._at_y(self._y[0])
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            x, top = self._at_x(left), self._at_y(height)
            self._drawn.append(
                f"<rect x='{x:.1f}' y='{top:.1f}' width='{max(self._at_x(right) - x - 1.0, 0.5):.1f}'"
                f" height='{max(floor - top, 0.0):.1f}' fill='{colour}' fill-opacity='0.7'/>"
            )

    def svg(self) -> str:
        """The plot as an element of a page, with a title for those who cannot see it."""
        return (
            f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}' role='img'"
            f" aria-label='{escape(self._title, quote=True)}' font-family='system-ui,sans-serif' font-size='11'>"
            f"{self._axes()}{''.join(self._drawn)}{self._key()}</svg>"
        )

    def _name(self, name: str, colour: str) -> None:
        if name:
            self._legend.append((name, colour))

    def _key(self) -> str:
        return "".join(
            f"<text x='{_LEFT + 8}' y='{_TOP + 12 + 14 * i}' fill='{colour}'>{escape(name)}</text>"
            for i, (name, colour) in enumerate(self._legend)
        )

    def _axes(self) -> str:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        frame = f"x='{_LEFT}' y='{_TOP}' width='{right - _LEFT}' height='{bottom - _TOP}'"
        parts = [f"<rect {frame} fill='none' stroke='#232b36'/>"]
        for value in _log_ticks(*self._x) if self._log_x else _ticks(*self._x):
            at, text = self._at_x(value), self._format_x(value)
            parts.append(
                f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{bottom}' y2='{bottom + 4}' stroke='{GREY}'/>"
                f"<text x='{at:.1f}' y='{bottom + 16}' fill='{GREY}' text-anchor='middle'>{text}</text>"
            )
        for value in _ticks(*self._y):
            at = self._at_y(value)
            parts.append(
                f"<line x1='{_LEFT}' x2='{right}' y1='{at:.1f}' y2='{at:.1f}' stroke='#1c222b'/>"
                f"<text x='{_LEFT - 6}' y='{at + 4:.1f}' fill='{GREY}' text-anchor='end'>{self._format_y(value)}</text>"
            )
        middle = (_TOP + bottom) / 2
        parts.append(
            f"<text x='{(_LEFT + right) / 2}' y='{_HEIGHT - 10}' fill='#d7dee8' text-anchor='middle'>"
            f"{escape(self._x_title)}</text><text x='12' y='{middle}' fill='#d7dee8' text-anchor='middle'"
            f" transform='rotate(-90 12 {middle})'>{escape(self._y_title)}</text>"
        )
        return "".join(parts)

    def _at_x(self, value: float) -> float:
        low, high = self._x
        if self._log_x:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low * 1e-6))
        return _LEFT + (_WIDTH - _RIGHT - _LEFT) * _share(value, low, high)

    def _at_y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * _share(value, *self._y)


def _share(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5


def _ticks(low: float, high: float) -> list[float]:
    """Five or so round numbers."""
    raw = (high - low) / 5.0
    if raw <= 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= raw * (1.0 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; every doubling if there are few of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [one for power in powers for k in (1, 2, 5) if low <= (one := k * 10.0**power) <= high]


def _percent(value: float) -> str:
    return f"{100.0 * value:.4g} %"


def _plain(value: float) -> str:
    return f"{value:.4g}"
