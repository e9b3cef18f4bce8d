"""The participant's screen in a browser: a cross, what is fed back, the photodiode's patch, and a report of each."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log
from mindsight.files.images import png_bytes
from mindsight.protocol import Candidate, Reconstruction, Result, dump_message
from support.dashboard_browser import SIZES, Tab
from support.gateway_harness import Running, running_gateway

__all__ = ["running_gateway"]
DIGEST = "ab" * 32
SECRET = "a secret face"


@pytest.fixture
def session(running: Running) -> str:
    """An open session with three trials, of which the participant sees the reconstruction."""
    with running.client("experimenter") as client:
        subject = client.post("/v1/subjects").json()["subject"]
        session = str(client.post("/v1/sessions", json={"subject": subject}).json()["session"])
        client.post(f"/v1/sessions/{session}/runs", json={"run": 1, "task": "view", "tr_s": 2.0})
        events = [{"onset_s": 2.0 * k, "duration_s": 1.0, "trial": k, "label": SECRET} for k in (1, 2, 3)]
        client.post(f"/v1/sessions/{session}/runs/1/events", json=events)
        plan = {"show": "reconstruction", "deadline_s": 100, "hold_s": 1, "patch": "top-left"}
        assert client.put(f"/v1/sessions/{session}/feedback", json=plan).status_code == 200
        return session


def reports(log: Log, n: int) -> list[dict[str, Any]]:
    """What the screen has reported, as soon as there are n."""
    for _ in range(300):
        found = [json.loads(entry.payload) for entry in log.read() if b'"feedback.drawn"' in entry.payload]
        if len(found) >= n:
            return found
        time.sleep(0.1)
    raise AssertionError(f"expected {n} reports within 30 s, got {len(found)}")


def picture() -> bytes:
    import numpy as np

    return png_bytes(np.full((64, 64, 3), (200, 40, 40), np.uint8))


def test_the_screen_shows_what_is_fed_back_and_reports_when(tab: Tab, running: Running, session: str) -> None:
    tab.page.goto(f"{running.url}/participant.html#key={running.keys['participant']}&session={session}")
    tab.until("document.activeElement?.type === 'submit'")
    assert running.keys["participant"] not in tab.page.url
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('.patch.top-left.black') !== null")  # the plan is there: it is connected
    assert tab.page.is_visible(".stage.cross")
    bus = Bus.from_settings(running.settings)
    log, image = Log(bus, session, "messages"), BlobStore(running.settings.blobs_dir).put(picture())
    common: dict[str, Any] = {"session": session, "t": time.time(), "run": 1, "stage": "fast"}
    log.append("p1", dump_message(Reconstruction(
        **common, trial=1, image=image, seed=1, evaluations=4, generator=DIGEST)))  # fmt: skip
    tab.until("document.querySelector('.stage img')?.naturalWidth === 64")
    assert tab.page.is_visible(".patch.white")
    tab.until("document.querySelector('.stage.cross:not(:has(.stage))') !== null")  # after hold_s
    with running.client("experimenter") as client:
        plan = {"show": "confidence", "deadline_s": 100, "patch": "bottom-right"}
        client.put(f"/v1/sessions/{session}/feedback", json=plan)
    tab.until("document.querySelector('.patch.bottom-right') !== null")
    log.append("r2", dump_message(Result(
        **common, trial=2, candidates=(Candidate(id="c", label=SECRET, score=1.0),), confidence=0.7, chance=0.1,
        null_confidence=0.1, pool_size=10, model=DIGEST, pool=DIGEST, normalised_by="bundle")))  # fmt: skip
    tab.until("document.querySelector('.bar')?.getAttribute('aria-label') === '70 of 100'")
    drawn = reports(log, 2)
    bus.close()
    assert [(one["trial"], one["what"], one["patch"]) for one in drawn] == [
        (1, "picture", "white"),
        (2, "bar", "black"),
    ]
    for one in drawn:
        error_s = one["clock_ms"] / 1000 + 0.002
        assert one["sent_t"] - error_s <= one["requested_t"] <= one["drawn_t"] + 0.02
    assert SECRET not in "".join(tab.frames) + tab.page.content()
    fetched = [request for request in tab.requests if not request.startswith("blob:")]
    assert {urlsplit(request).netloc for request in fetched} == {urlsplit(running.url).netloc}
    for width, height in [*SIZES, (3840, 2160), (800, 600)]:
        tab.page.set_viewport_size({"width": width, "height": height})
        assert tab.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), (width, height)
    assert tab.problems == []


def test_a_key_that_may_not_show_it_is_refused_in_words(tab: Tab, running: Running, session: str) -> None:
    tab.page.goto(f"{running.url}/participant.html#key={running.keys['console']}&session={session}")
    tab.until("document.activeElement?.type === 'submit'")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('.begin .problem') !== null")
    assert "scope events:read or feedback:read" in tab.text(".begin .problem")
