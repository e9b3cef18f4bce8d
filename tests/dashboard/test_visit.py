"""A whole simulated visit from the browser, with the keyboard alone: enrol, calibrate, decode, review, export, erase.

All processes are the real ones; only scanner and participant are simulated, by the service's own job. What a keyboard
cannot do in a test is to choose files.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindsight import assets
from mindsight.retrieval import CandidatePool
from support.dashboard_browser import Tab
from support.keyboard import check_accessible, go_to, hold, press, write
from support.whole_service import WholeService, whole_service

pytestmark = pytest.mark.slow

LONG_S = 300.0
SPEED = "60"  # times real time: ingest follows


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeService]:
    with whole_service(tmp_path_factory.mktemp("browser")) as service:
        yield service


def test_a_whole_visit_from_the_browser(tab: Tab, service: WholeService, tmp_path: Path) -> None:
    tab.page.goto(f"{service.url}/#key={service.key}")
    tab.until("document.querySelector('#simulate')?.offsetParent")
    _build_pool(tab, tmp_path)
    subject = _enrol(tab)
    _calibrate(tab, subject)
    _decode(tab, subject)
    _review(tab, subject)
    _export(tab, subject, tmp_path)
    _erase(tab, service, subject)
    assert tab.problems == []


def _build_pool(tab: Tab, folder: Path) -> None:
    pool = CandidatePool.load(assets.BUNDLE / "pool")
    files = []
    for id_, path in zip(pool.ids, pool.images or (), strict=True):
        assert path is not None
        files.append({"name": f"{id_}.png", "mimeType": "image/png", "buffer": path.read_bytes()})
    press(tab, "nav a[href='#subjects']")
    tab.until("document.querySelector('[name=pool]')?.offsetParent")
    write(tab, "[name=pool]", "scenes")
    tab.page.set_input_files("[name=files]", files)
    press(tab, "form:has([name=pool]) button[type=submit]")
    tab.until("[...document.querySelectorAll('td')].some((cell) => cell.textContent === 'scenes')", LONG_S)
    check_accessible(tab)


def _enrol(tab: Tab) -> str:
    press(tab, "form:has([name=consent-form]) button[type=submit]")
    tab.until("location.hash.startsWith('#subject=') && document.querySelector('a[href^=\"#new=\"]')")
    return str(tab.page.evaluate("location.hash.split('=')[1]"))


def _open(tab: Tab, runs: int) -> str:
    """A session with the decoder that is offered first, and the simulated scanner in it."""
    press(tab, "a[href^='#new=']")
    tab.until("document.querySelector('[name=decoder]')?.options.length")
    write(tab, "[name=n_runs]", str(runs))
    tab.page.keyboard.press("Enter")
    tab.until("document.activeElement.id === 'open'")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('#simulate-scanner')")
    write(tab, "[name=speed]", SPEED)
    press(tab, "#simulate-scanner")
    tab.until("location.hash.startsWith('#session=')")
    return str(tab.page.evaluate("location.hash.split('=')[1]"))


def _to(tab: Tab, page: str) -> None:
    """From the live page by its menu, from any other by the bar."""
    if tab.page.query_selector("[popovertarget=pages-menu]"):
        press(tab, "[popovertarget=pages-menu]")
        tab.until("document.querySelector('#pages-menu:popover-open')")
    press(tab, f"nav a[href='#{page}']")
    tab.until("document.querySelector('nav.pages [aria-current]')")


def _calibrate(tab: Tab, subject: str) -> None:
    session = _open(tab, 3)
    _to(tab, "calibrate")
    tab.until("document.querySelector('[name=source]')?.options.length > 1")
    assert tab.page.input_value("[name=source]") == session
    press(tab, "form button[type=submit]")
    tab.until("document.querySelector('.job')")
    check_accessible(tab)
    tab.until("document.querySelector('.learning svg')", LONG_S)
    _to(tab, "sessions")
    press(tab, f".cards a[href='#session={session}']")
    _close(tab, 3)
    _to(tab, "calibrate")
    tab.until("document.querySelector('.job')?.dataset.level === 'done'", LONG_S)
    tab.until("document.querySelector('main').textContent.includes('● active')")
    press(tab, "[aria-label^=Report]")
    tab.until("document.querySelector('dialog.report .content')?.shadowRoot.textContent.includes('accuracy')")
    tab.page.keyboard.press("Escape")
    tab.until("!document.querySelector('dialog[open]')")


def _close(tab: Tab, runs: int) -> None:
    """Close the session when its last run has ended."""
    run = f"document.querySelector('ms-header .last').textContent.includes('run {runs} complete')"
    tab.until(f"document.querySelector('ms-header .last') && {run}", LONG_S)
    tab.page.keyboard.press("m")
    tab.until("document.activeElement.id === 'mark-text'")
    tab.page.keyboard.type("last run")
    tab.page.keyboard.press("Enter")
    tab.until("!document.querySelector('dialog[open]')")
    tab.until("document.querySelector('ms-controls .sent').textContent.includes('✓ Mark: logged')", LONG_S)
    hold(tab, "x", until="['CLOSED', 'ARCHIVED'].includes(document.querySelector('ms-header .chip').dataset.state)")
    tab.until("document.querySelector('ms-header .chip').dataset.state === 'ARCHIVED'", LONG_S)
    check_accessible(tab)


def _decode(tab: Tab, subject: str) -> None:
    _to(tab, "subjects")
    tab.until(f"document.querySelector('a[href=\"#subject={subject}\"]')")
    press(tab, f"a[href='#subject={subject}']")
    tab.until("document.querySelector('a[href^=\"#new=\"]')")
    _open(tab, 1)
    tab.until("document.querySelectorAll('ms-candidates img:not([hidden])').length === 8", LONG_S)
    _close(tab, 1)


def _review(tab: Tab, subject: str) -> None:
    _to(tab, "replay")
    tab.until("document.querySelectorAll('a[href^=\"#replay=\"]').length === 2")
    write(tab, "[name=speed]", "20")
    go_to(tab, "a.button[href$='speed=20']")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('ms-header .chip')?.textContent.includes('REPLAY 20')")
    tab.until("document.querySelectorAll('ms-candidates img:not([hidden])').length === 8", LONG_S)


def _export(tab: Tab, subject: str, folder: Path) -> None:
    """The last session's report, its archive, and the version that decoded it."""
    _to(tab, "subjects")
    tab.until(f"document.querySelector('a[href=\"#subject={subject}\"]')")
    press(tab, f"a[href='#subject={subject}']")
    tab.until("document.querySelector('[aria-label^=\"Report of ses-\"]')")
    check_accessible(tab)
    press(tab, "[aria-label^='Report of ses-']")
    tab.until("document.querySelector('dialog.report .content')?.shadowRoot.textContent.includes('Quality')")
    check_accessible(tab)
    tab.page.keyboard.press("Escape")
    tab.until("!document.querySelector('dialog[open]')")
    assert any(name.endswith("manifest.json") for name in _download(tab, "Export ses-", folder / "session.tar"))
    assert any(name.endswith("bundle.json") for name in _download(tab, "Export version", folder / "bundle.tar"))


def _download(tab: Tab, label: str, file: Path) -> list[str]:
    """Names in the archive that a button gives."""
    with tab.page.expect_download(timeout=LONG_S * 1000) as waiting:
        press(tab, f"[aria-label^='{label}']")
    waiting.value.save_as(file)
    with tarfile.open(file) as tar:
        return tar.getnames()


def _erase(tab: Tab, service: WholeService, subject: str) -> None:
    """The last session, then its subject."""
    label = tab.page.get_attribute("[aria-label^='Erase ses-']", "aria-label")
    assert label is not None
    session = label.removeprefix("Erase ")
    _confirm(tab, f"[aria-label='{label}']", session, "searched for the session")
    tab.until(f"!document.querySelector(\"[aria-label='{label}']\")")
    check_accessible(tab)
    assert list(service.settings.data_dir.rglob(f"*{session}*")) == []
    _confirm(tab, ".stack + section button.danger", subject, "searched for the pseudonym")
    check_accessible(tab)
    assert list(service.settings.data_dir.rglob(f"*{subject}*")) == []


def _confirm(tab: Tab, button: str, word: str, proof: str) -> None:
    press(tab, button)
    tab.until("document.querySelector('#confirm-word')")
    write(tab, "#confirm-word", word)
    tab.page.keyboard.press("Enter")
    tab.until(f"document.querySelector('.notice').textContent.includes('{proof}')", LONG_S)
    assert "nothing is left" in tab.page.inner_text(".notice")
