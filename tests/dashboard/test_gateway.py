"""The page on the real gateway and the real bus: who may see the truth sees it, and who may not never receives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer, Log
from mindsight.files.images import png_bytes
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.protocol.messages import Reconstruction, dump_message
from mindsight.settings import Settings
from service.keys import create_keys
from support.dashboard_browser import Tab
from support.dashboard_record import Record, iter_trials


@dataclass
class Running:
    url: str
    keys: dict[str, str]
    session: str
    n_messages: int
    settings: Settings


def _fill(settings: Settings, record: Record, n_messages: int) -> None:
    """A session on the bus as the workers would have left it by now."""
    bus = Bus.from_settings(settings)
    blobs, log = BlobStore(settings.blobs_dir), Log(bus, record.session, "messages")
    shift = time.time() - record.messages[n_messages - 1].t
    Sessions(bus).create(SessionRecord(session=record.session, subject="sub-7f3a", opened_t=time.time()))
    for image in record.images.values():
        blobs.put(image)
    for message in record.messages[:n_messages]:
        log.append(f"message-{message.id}", dump_message(message.model_copy(update={"t": message.t + shift})))
    bus.close()


@pytest.fixture(scope="module")
def gateway(open_record: Record, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    n_messages = open_record.until(2, 40)
    settings = Settings(data_dir=tmp_path_factory.mktemp("gateway"), port=0)
    with EmbeddedServer(settings):
        _fill(settings, open_record, n_messages)
        keys = {str(role): key for role, key in create_keys(settings.data_dir).items()}
        environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(settings.data_dir), "MINDSIGHT_PORT": "0"}
        root = Path(__file__).parents[2]
        process = subprocess.Popen([sys.executable, "-m", "service"], env=environment, cwd=root)
        try:
            url = _address(settings.data_dir / "gateway.json", process)
            yield Running(url, keys, open_record.session, n_messages, settings)
        finally:
            process.terminate()
            process.wait(timeout=10)


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert process.poll() is None, f"the gateway ended with {process.returncode}"
        assert time.monotonic() < deadline, "the gateway did not say its address within 30 s"
        time.sleep(0.05)
    return str(json.loads(file.read_text())["url"])


def _open(tab: Tab, gateway: Running, role: str) -> None:
    tab.page.goto(f"{gateway.url}/#key={gateway.keys[role]}&session={gateway.session}")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")
    tab.until("document.querySelectorAll('ms-candidates img:not([hidden])').length === 8")


def test_an_experimenter_sees_the_session_with_its_truth(tab: Tab, gateway: Running) -> None:
    _open(tab, gateway, "experimenter")
    assert "kind" in tab.text("ms-trial figcaption")
    assert tab.page.is_visible("ms-accuracy")
    ids = [m["id"] for m in map(json.loads, tab.frames) if m["type"] != "tick"]
    assert ids == list(range(1, gateway.n_messages + 1))
    assert tab.problems == []


def test_a_viewer_never_receives_what_was_shown(tab: Tab, gateway: Running, open_record: Record) -> None:
    _open(tab, gateway, "viewer")
    received = "".join(tab.frames)
    truth = {m.label for m in iter_trials(open_record)}
    assert len(truth) > 4
    assert not any(f'"{label}"' in received or str(label) in tab.page.content() for label in truth)
    assert "BLINDED" in tab.text("ms-header")
    assert not tab.page.is_visible("ms-accuracy")
    assert tab.problems == []


def test_a_console_key_is_refused_in_words(tab: Tab, gateway: Running) -> None:
    tab.page.goto(f"{gateway.url}/#key={gateway.keys['console']}&session={gateway.session}")
    tab.until("document.querySelector('.key-form .problem')?.textContent.includes('may not watch')")


def test_a_picture_that_comes_while_one_watches_is_pushed_and_not_fetched(
    tab: Tab, gateway: Running, open_record: Record
) -> None:
    _open(tab, gateway, "viewer")
    pixels_HW3 = np.full((32, 32, 3), (10, 200, 90), np.uint8)
    image = BlobStore(gateway.settings.blobs_dir).put(png_bytes(pixels_HW3))
    bus = Bus.from_settings(gateway.settings)
    log = Log(bus, gateway.session, "messages")
    for message in open_record.messages[gateway.n_messages :]:
        ours = message.model_copy(update={"image": image}) if isinstance(message, Reconstruction) else message
        log.append(f"message-{message.id}", dump_message(ours.model_copy(update={"t": time.time()})))
        if ours is not message:
            break
    bus.close()
    tab.until(f"document.querySelector('ms-trial img[data-digest=\"{image}\"]:not([hidden])')?.naturalWidth === 32")
    assert not [request for request in tab.requests if image in request]
    assert tab.problems == []
