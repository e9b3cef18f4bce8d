from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from mindsight.bus import Bus, Log
from mindsight.client import Console, Watch
from mindsight.errors import NotAllowed, NotFound, ServiceUnavailable
from mindsight.protocol import SessionArchived, SessionOpened, Warned, dump_message
from support.gateway_harness import Running
from support.proxy_harness import Proxy


@pytest.fixture
def session(running: Running) -> str:
    with Console(running.url, running.keys["admin"]) as console:
        return console.open_session(console.enrol())


def write(bus: Bus, session: str, first: int, last: int, pause_s: float = 0.0) -> None:
    for number in range(first, last):
        message = Warned(session=session, t=1.0, code="test", text=str(number))
        Log(bus, session, "messages").append(f"warning-{number}", dump_message(message))
        time.sleep(pause_s)


def archive(bus: Bus, session: str) -> None:
    message = SessionArchived(session=session, t=2.0, archive="archive/x", n_files=1)
    Log(bus, session, "messages").append("archived", dump_message(message))


def test_typed_messages_until_the_archive_is_there(running: Running, bus: Bus, session: str) -> None:
    write(bus, session, 0, 3)
    archive(bus, session)
    write(bus, session, 3, 5)
    found = list(Watch(running.url, running.keys["viewer"], session))
    assert isinstance(found[0], SessionOpened)
    assert isinstance(found[-1], SessionArchived)
    assert [message.id for message in found] == [1, 2, 3, 4, 5]
    assert [message.id for message in Watch(running.url, running.keys["viewer"], session, after=3)] == [4, 5]


def test_it_sees_everything_once_across_many_cuts(
    running: Running, proxy: Proxy, cutting: Callable[[int], None], bus: Bus, session: str
) -> None:
    n = 400
    writer = threading.Thread(target=write, args=(bus, session, 0, n, 0.005))
    finisher = threading.Thread(
        target=lambda: (writer.join(60), _until(lambda: proxy.cuts >= 40), archive(bus, session))
    )
    cutting(40)
    writer.start()
    finisher.start()
    # where a handshake takes longer than the time between two cuts, none succeeds until the last
    found = list(Watch(proxy.url, running.keys["viewer"], session, deadline_s=120.0))
    finisher.join(120)
    assert proxy.cuts >= 40
    assert [message.id for message in found] == list(range(1, n + 3))
    assert [message.text for message in found if isinstance(message, Warned)] == [str(i) for i in range(n)]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_connection_that_stays_silent_is_replaced(running: Running, proxy: Proxy, bus: Bus, session: str) -> None:
    watch = iter(Watch(proxy.url, running.keys["viewer"], session, silence_s=0.6, deadline_s=20.0))
    assert next(watch).id == 1
    proxy.silent = True  # the connection stays open, and carries nothing
    write(bus, session, 0, 1)
    timer = threading.Timer(1.0, lambda: (proxy.cut(), setattr(proxy, "silent", False)))
    timer.start()
    assert next(watch).id == 2
    timer.join()


def test_ticks_keep_a_quiet_connection(running: Running, proxy: Proxy, bus: Bus, session: str) -> None:
    watch = iter(Watch(proxy.url, running.keys["viewer"], session, silence_s=3.0))
    next(watch)
    timer = threading.Timer(3.5, write, args=(bus, session, 0, 1))
    timer.start()
    assert next(watch).id == 2
    assert proxy.cuts == 0
    assert len(proxy._links) == 1, "one connection all the time"
    timer.join()


def test_a_gateway_that_stays_away_is_reported_in_time(running: Running, proxy: Proxy, session: str) -> None:
    watch = iter(Watch(proxy.url, running.keys["viewer"], session, deadline_s=1.0))
    next(watch)
    proxy.refusing = True
    proxy.cut()
    started = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="did not answer for 1 s"):
        next(watch)
    assert time.monotonic() - started < 10.0


def test_what_cannot_be_watched_gives_the_reason_at_once(running: Running, session: str) -> None:
    with pytest.raises(NotFound):
        next(iter(Watch(running.url, running.keys["viewer"], "nowhere")))
    with pytest.raises(NotAllowed):
        next(iter(Watch(running.url, running.keys["console"], session)))
    with pytest.raises(NotAllowed):
        next(iter(Watch(running.url, "ms_wrong", session)))


def test_it_ends_when_asked(running: Running, session: str) -> None:
    watch = Watch(running.url, running.keys["viewer"], session)
    timer = threading.Timer(0.5, watch.close)
    timer.start()
    assert [message.id for message in watch] == [1]
    timer.join()
