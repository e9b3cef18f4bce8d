"""Four hours in minutes: what the page holds, and how long a frame takes, stay as they were at the beginning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.dashboard_browser import SIZES, Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_long import RUNS, TRIALS, VOLUMES, long_session
from support.dashboard_record import Record
from support.dashboard_text import misfits

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"  # to be looked at
STEP = 24  # messages at once: the page draws some hundred times a run

COUNTED_FRAMES = """(() => {
  const plain = requestAnimationFrame.bind(window);
  window.frames = 0;
  window.requestAnimationFrame = (work) => plain((t) => { window.frames += 1; work(t); });
})()"""


@pytest.fixture(scope="module")
def record() -> Record:
    return long_session()


@pytest.fixture(scope="module")
def feeder(record: Record) -> Iterator[Feeder]:
    with Feeder([record]) as feeder:
        yield feeder


class Meter:
    """What the page holds, and the processor time of its scripts for a frame: what else runs does not count."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.console: Any = tab.page.context.new_cdp_session(tab.page)
        self.console.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.script_s, self.frames = 0.0, 0

    def read(self) -> dict[str, float]:
        """Heap and elements after a collection of garbage, and the frames since the last reading."""
        self.console.send("HeapProfiler.collectGarbage")
        metrics = {m["name"]: m["value"] for m in self.console.send("Performance.getMetrics")["metrics"]}
        frames = self.tab.page.evaluate("frames")
        script_s, n = metrics["ScriptDuration"] - self.script_s, frames - self.frames
        self.script_s, self.frames = metrics["ScriptDuration"], frames
        return {
            "heap_mb": round(metrics["JSHeapUsedSize"] / 2**20, 1),
            "elements": metrics["Nodes"],
            "frames": n,
            "script_ms_per_frame": round(1e3 * script_s / n, 2),
        }


@pytest.mark.slow
def test_four_hours_leave_memory_and_frame_time_as_they_were(tab: Tab, feeder: Feeder, record: Record) -> None:
    tab.page.add_init_script(COUNTED_FRAMES)
    starts = [n for n, m in enumerate(record.messages, 1) if m.type == "run.started"]
    ends = [*starts[1:], len(record.messages) + 1]
    feeder.publish(record.session, 2, last_was_s_ago=0.2)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
    measured, n, meter = [], 2, Meter(tab)
    for end in ends:
        while n < end - 1:
            n = min(n + STEP, end - 1)
            feeder.publish(record.session, n)
            tab.until(f"Number(document.querySelector('.live')?.dataset.last) >= {n}")
        measured.append(meter.read())
        print(f"run {len(measured)}: {json.dumps(measured[-1])}")
    early, late = measured[1], measured[-1]
    assert late["heap_mb"] - early["heap_mb"] < 40, "of the betas, results and volumes of nine runs"
    assert late["elements"] < early["elements"] * 1.1
    assert late["script_ms_per_frame"] < 1.5 * early["script_ms_per_frame"] + 2
    _readable(tab)
    assert tab.problems == []


def _readable(tab: Tab) -> None:
    """Every trial has a place of its own, which can be clicked."""
    tab.until("document.querySelector('ms-trials .aside').textContent.includes('693')")
    for width, height in SIZES:
        tab.page.set_viewport_size({"width": width, "height": height})
        assert misfits(tab.page) == [], (width, height)
        tab.page.screenshot(path=SCREENSHOTS / f"four-hours-{width}.png")
        cells = tab.page.evaluate("document.querySelector('ms-trials').cells.map((c) => [c.w, c.h])")
        assert len(cells) == RUNS * TRIALS
        assert min(w for w, _ in cells) >= 2
        assert min(h for _, h in cells) >= 8, (width, height)
    assert (
        tab.page.evaluate("Number(document.querySelector('ms-header').textContent.match(/(\\d+) \\/ /)[1])") == VOLUMES
    )
