"""The pages around the live one on the real gateway and the real bus, used with the keyboard alone.

No worker process runs here: the session is led by the worker's own code in a thread. The long form is a whole visit,
``tests/system/test_visit_in_browser.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer, Lease, WorkQueue, read_many
from mindsight.journal.presence import Presence, Worker
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.settings import Settings
from service.keys import create_keys
from support.dashboard_browser import Tab
from support.dialogs import check_dialog, check_middle
from support.gateway_harness import start_gateway, stop
from support.keyboard import check_accessible, choose, go_to, hold, press, write
from workers.ingest.runner import SessionRunner

_LOGGED = "document.querySelector('ms-controls .sent').textContent.includes('✓ {}: logged')"
PAGES = ("calibrate", "replay", "admin")


@dataclass
class Place:
    """A gateway, and as many workers as the dry run asks for."""

    settings: Settings
    url: str
    keys: dict[str, str]
    bus: Bus
    ended: threading.Event = field(default_factory=threading.Event)

    def open(self, tab: Tab, address: str, role: str = "admin") -> None:
        tab.page.goto(f"{self.url}/#key={self.keys[role]}&{address}")
        tab.until("document.querySelector('h1')")

    def lead(self, session: str) -> None:
        """Carry out what is logged in a session, until it is closed."""
        lease = Lease.acquire(self.bus, session, "test", 600.0)
        assert lease is not None
        queue, blobs = WorkQueue(self.bus, "inference"), BlobStore(self.settings.blobs_dir)
        runner = SessionRunner.resume(session, lease, self.bus, blobs, queue, self.settings)
        while not self.ended.is_set() and not runner.closed:
            for entry in read_many({runner.inputs: runner.position}, 0.1, 64).get(runner.inputs, []):
                runner.take(entry)

    @contextmanager
    def leading(self, session: str) -> Iterator[None]:
        thread = threading.Thread(target=self.lead, args=(session,))
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    settings = Settings(data_dir=Path(tmp_path_factory.mktemp("pages")), port=0)
    keys = {str(role): key for role, key in create_keys(settings.data_dir).items()}
    with EmbeddedServer(settings):
        bus = Bus.from_settings(settings)
        now = time.time()
        for kind in ("ingest", "jobs"):
            seen = Worker(name=f"test-{kind}", kind=kind, version="1", about="CPU", started_t=now, seen_t=now + 600.0)
            Presence(bus).beat(seen)
        process, url = start_gateway(settings)
        yield Place(settings, url, keys, bus)
        stop(process)
        bus.close()


def test_a_session_is_opened_and_steered_with_the_keyboard(tab: Tab, place: Place) -> None:
    place.open(tab, "sessions")
    tab.until("document.querySelector('#simulate')?.offsetParent")
    check_accessible(tab)
    press(tab, "nav a[href='#subjects']")
    tab.until("document.querySelector('form button[type=submit]')")
    check_accessible(tab)
    press(tab, ".sheet form button.primary")
    tab.until("location.hash.startsWith('#subject=') && document.querySelector('a[href^=\"#new=\"]')")
    check_accessible(tab)
    press(tab, "a[href^='#new=']")
    tab.until("document.querySelector('[name=decoder]')?.options.length")
    tab.page.keyboard.press("Tab")
    go_to(tab, "[name=decoder]")
    tab.page.keyboard.press("End")  # without a decoder
    write(tab, "[name=n_volumes]", "12")
    tab.page.keyboard.press("Enter")
    tab.until("document.activeElement.id === 'open' && document.querySelectorAll('.checks li').length === 8")
    check_accessible(tab)
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('#command')")
    command = tab.page.input_value("#command")
    assert "MINDSIGHT_KEY=ms_" in command
    assert "'watch:/export?n=12'" in command
    check_accessible(tab)
    [session] = [record.session for record in Sessions(place.bus).unfinished()]
    with place.leading(session):
        press(tab, "a[href^='#session=']")
        _steer(tab)
    assert tab.problems == []


def test_of_many_sessions_the_newest_are_listed_and_where_the_others_are(tab: Tab, place: Place) -> None:
    sessions = Sessions(place.bus)
    names = [f"many-{number:03}" for number in range(205)]
    for number, name in enumerate(names):
        sessions.create(SessionRecord(session=name, subject="sub-many", opened_t=2e9 + number))
        sessions.advance(name, "archived")
    try:
        place.open(tab, "sessions")
        tab.until("document.querySelectorAll('.cards a').length === 200")
        assert tab.page.inner_text(".cards a .row:nth-child(2)") == "many-204"
        assert "newest 200" in tab.page.inner_text("#older:visible")
        check_accessible(tab)
        place.open(tab, "replay")
        tab.until("document.querySelectorAll('tbody tr').length === 200")
        assert tab.page.is_visible("#older")
        tab.page.click("#older a")
        tab.until("location.hash === '#subjects'")
    finally:
        for name in names:
            sessions.forget(name)
    place.open(tab, "replay")
    tab.until("document.querySelectorAll('tbody tr').length < 200")
    assert not tab.page.is_visible("#older")
    assert tab.problems == []


def _steer(tab: Tab) -> None:
    keyboard = tab.page.keyboard
    tab.until("document.querySelector('ms-controls .control')?.offsetParent")
    keyboard.press("m")
    tab.until("document.activeElement.id === 'mark-text'")
    check_accessible(tab)
    keyboard.type("coughed")
    keyboard.press("Enter")
    tab.until("!document.querySelector('dialog[open]')")
    _logged(tab, "Mark")
    tab.until("document.querySelector('ms-events').textContent.includes('mark: coughed')")
    keyboard.press("s")
    _logged(tab, "Start of run 1")
    tab.until("document.querySelector('ms-controls .start').disabled")
    keyboard.press("x")  # too short: a run is not ended by a slip
    hold(tab, "x", until=_LOGGED.format("Stop of run 1"))
    keyboard.press("b")
    _logged(tab, "Blinding")
    tab.until("document.querySelector('ms-controls .blind').dataset.on === ''")
    _choose_feedback(tab)
    keyboard.press("?")
    tab.until("document.querySelector('ms-controls dialog[open] dl')")
    check_middle(tab)
    keyboard.press("Escape")
    tab.until("!document.querySelector('dialog[open]')")
    hold(tab, "x", until="document.querySelector('ms-header .chip').dataset.state === 'CLOSED'")
    tab.until("document.querySelector('ms-controls').hidden")


def _choose_feedback(tab: Tab) -> None:
    """With the keyboard, twice: the form begins with what was chosen last."""
    for show, words in (("bar", "a bar of the probability"), ("candidate", "the first candidate’s name")):
        tab.page.keyboard.press("f")
        tab.until("document.activeElement.id === 'feedback-show'")
        tab.page.keyboard.type(show[0])
        choose(tab, "#feedback-fallback", "a")
        tab.until("document.querySelector('#feedback-text').offsetParent")
        write(tab, "#feedback-text", "—")
        if show == "bar":
            check_accessible(tab)
        tab.page.keyboard.press("Enter")
        tab.until("!document.querySelector('dialog[open]')")
        _logged(tab, "Feedback")
        tab.until(f"document.querySelector('ms-events').textContent.includes('{words}, fast, within 12.0 s')")


def _logged(tab: Tab, what: str) -> None:
    tab.until(_LOGGED.format(what))


@pytest.mark.slow
def test_every_dialog_of_the_live_page_opens_in_the_middle_at_every_size(tab: Tab, place: Place) -> None:
    with httpx.Client(base_url=place.url, headers={"Authorization": f"Bearer {place.keys['admin']}"}) as admin:
        subject = admin.post("/v1/subjects").json()["subject"]
        session = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    place.open(tab, f"session={session}")
    tab.until("document.querySelector('ms-controls .control')?.offsetParent")
    for key in ("m", "s", "f", "?"):
        tab.page.keyboard.press(key)
        tab.until("document.querySelector('ms-controls dialog[open]')")
        check_accessible(tab)
        check_dialog(tab)
    go_to(tab, "ms-signal button.small")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('ms-signal dialog[open]')")
    check_accessible(tab)
    check_dialog(tab)
    assert tab.page.evaluate("document.activeElement.matches('ms-signal button.small')")  # where one came from
    assert tab.problems == []


def test_the_other_pages_are_accessible_and_say_nothing_on_the_console(tab: Tab, place: Place) -> None:
    place.open(tab, "calibrate")
    for address in PAGES:
        press(tab, f"nav a[href='#{address}']")
        tab.until(f"document.querySelector('nav [aria-current]').hash === '#{address}'")
        tab.until("document.querySelector('main section > :nth-child(3)')")
        check_accessible(tab)
    assert tab.problems == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_is_wider_than_its_window(tab: Tab, place: Place, width: int) -> None:
    place.open(tab, "sessions")
    tab.page.set_viewport_size({"width": width, "height": 800})
    for page in ("sessions", "new", "subjects", *PAGES):
        press(tab, f"nav a[href='#{page}']")
        tab.until(f"document.querySelector('nav [aria-current]').hash === '#{page}'")
        tab.until("document.querySelector('main h1')")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, page


def test_a_key_is_made_and_revoked(tab: Tab, place: Place) -> None:
    place.open(tab, "admin")
    tab.until("document.querySelectorAll('[aria-label^=Revoke]').length")
    go_to(tab, "[name=role]")
    tab.page.keyboard.type("viewer")
    press(tab, "form button[type=submit]")
    tab.until("document.querySelector('#new-key')?.value.startsWith('ms_')")
    id = tab.page.input_value("#new-key").split("_")[1]
    tab.until(f"document.querySelector('[aria-label=\"Revoke {id}\"]')")
    press(tab, f"[aria-label='Revoke {id}']")
    tab.until("document.querySelector('#confirm-word')")
    write(tab, "#confirm-word", id)
    tab.page.keyboard.press("Enter")
    tab.until(f"document.querySelector('.notice').textContent.includes('{id} is revoked')")
    tab.until("document.querySelector('main').textContent.includes('DELETE /v1/keys/{id}')")
    assert tab.problems == []


def test_a_viewer_finds_no_button_that_it_may_not_press(tab: Tab, place: Place) -> None:
    place.open(tab, "sessions", "viewer")
    tab.until("document.querySelector('.cards a')")
    assert not tab.page.is_visible("text=Run a simulated session")
