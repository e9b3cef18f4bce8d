from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log
from mindsight.protocol import EventAdded, Reconstruction, VolumeProcessed, Warned, dump_message
from mindsight.protocol.stream import LatestHeader, unpack_latest
from service.__main__ import listen
from service.app import create_app
from service.hub import RING, Hub
from service.routes import messages as stream
from support.gateway_harness import Running

PNG = b"\x89PNG\r\n\x1a\n"
_numbers = itertools.count()


def ws_url(running: Running, session: str, after: int = 0) -> str:
    return f"ws{running.url.removeprefix('http')}/v1/sessions/{session}/stream?after={after}"


def bearer(running: Running, role: str = "admin") -> dict[str, str]:
    return {"Authorization": f"Bearer {running.keys[role]}"}  # type: ignore[index]


def take(socket: ClientConnection, n: int) -> list[dict[str, Any]]:
    """The next n messages, ticks left out."""
    found: list[dict[str, Any]] = []
    while len(found) < n:
        message = json.loads(socket.recv(timeout=10))
        if message["type"] != "tick":
            found.append(message)
    return found


def warn(bus: Bus, session: str, n: int) -> None:
    for _ in range(n):
        number = next(_numbers)
        message = Warned(session=session, t=1.0, code="test", text=str(number))
        Log(bus, session, "messages").append(f"warning-{number}", dump_message(message))


def test_what_was_and_what_is_new_come_once_each_in_order(running: Running, bus: Bus, session: str) -> None:
    warn(bus, session, 5)
    with connect(ws_url(running, session), additional_headers=bearer(running)) as socket:
        assert [m["id"] for m in take(socket, 7)] == list(range(1, 8))
        warn(bus, session, 3)
        assert [m["id"] for m in take(socket, 3)] == [8, 9, 10]
    with connect(ws_url(running, session, after=9), additional_headers=bearer(running)) as socket:
        assert [m["id"] for m in take(socket, 1)] == [10]


UNREADABLE = {
    "of a newer version": b'{"v":2,"type":"warning","session":"s","t":5.0,"code":"c","text":"t"}',
    "of a type to come": b'{"v":1,"type":"miracle","session":"s","t":5.0}',
    "with an infinite number": b'{"v":1,"type":"volume.processed","session":"s","t":5.0,"run":1,"index":Infinity}',
    "that is no JSON": b"\xff{",
    "that is nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_message_does_not_stop_the_reader(
    running: Running, bus: Bus, session: str, admin: httpx.Client, payload: bytes
) -> None:
    with connect(ws_url(running, session), additional_headers=bearer(running)) as socket:
        take(socket, 2)
        Log(bus, session, "messages").append("strange", payload)
        warn(bus, session, 1)
        strange, after = take(socket, 2)
    assert (strange["id"], strange["type"], strange["code"]) == (3, "warning", "message.unreadable")
    assert "update Mindsight" in strange["text"]
    assert after["id"] == 4
    assert admin.get("/v1/health").status_code == 200
    with connect(ws_url(running, session, after=2), additional_headers=bearer(running)) as socket:  # from the log
        assert [m["id"] for m in take(socket, 2)] == [3, 4]


def test_a_tick_comes_when_nothing_else_does(running: Running, session: str) -> None:
    with connect(ws_url(running, session, after=2), additional_headers=bearer(running)) as socket:
        ticks = [json.loads(socket.recv(timeout=10)) for _ in range(2)]
    assert all(tick["type"] == "tick" and "id" not in tick for tick in ticks)
    assert 1.0 < ticks[1]["t"] - ticks[0]["t"] < 8.0
    assert [(tick["last"], tick["behind"]) for tick in ticks] == [(2, 0)] * 2
    assert ticks[1]["lags"] == {"volumes": None, "betas": 0, "pictures": 0, "refinements": 0}


def test_of_a_lane_that_is_wanted_comes_the_newest_picture(running: Running, bus: Bus, session: str) -> None:
    blobs, log = BlobStore(running.settings.blobs_dir), Log(bus, session, "messages")
    pictures = {number: PNG + bytes([number]) * 1000 for number in (3, 4, 5)}

    def draw(number: int) -> None:
        image = blobs.put(pictures[number])
        message = Reconstruction(
            session=session, t=1.0, run=1, trial=number, stage="fast", image=image, seed=1, evaluations=4,
            generator="0" * 64,
        )  # fmt: skip
        log.append(f"picture-{number}", dump_message(message))

    with connect(ws_url(running, session, after=2), additional_headers=bearer(running, "viewer")) as socket:
        draw(3)
        assert take(socket, 1)[0]["id"] == 3
        socket.send('{"type": "want", "lanes": ["pictures"]}')
        header, payload = take_item(socket)  # the newest that there was
        assert (header.lane, header.message, header.media_type, payload) == ("pictures", 3, "image/png", pictures[3])
        draw(4)
        header, payload = take_item(socket)
        assert (header.message, header.details["trial"], payload) == (4, 4, pictures[4])


def take_item(socket: ClientConnection) -> tuple[LatestHeader, bytes]:
    """The next item of a lane; messages before it are left out."""
    while isinstance(received := socket.recv(timeout=10), str):
        pass
    return unpack_latest(received)


def test_what_a_client_cannot_want_closes_its_stream_with_the_reason(running: Running, session: str) -> None:
    with connect(ws_url(running, session, after=2), additional_headers=bearer(running)) as socket:
        socket.send('{"type": "want", "lanes": ["everything"]}')
        with pytest.raises(ConnectionClosed) as closed:
            take(socket, 1)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason[:17]) == (4400, 'expected {"type":')


def test_a_blinded_key_gets_the_same_log_without_the_truth(running: Running, bus: Bus, session: str) -> None:
    truth = {"stimulus": "ab" * 32, "candidate": "img-7", "label": "a secret face"}
    event = EventAdded(session=session, t=1.0, run=1, trial=1, onset_s=1.0, duration_s=2.0, **truth)
    Log(bus, session, "messages").append("event-1-1", dump_message(event))
    warn(bus, session, 1)
    seen: dict[str, list[dict[str, Any]]] = {}
    for role in ("viewer", "experimenter"):
        with connect(ws_url(running, session), additional_headers=bearer(running, role)) as socket:
            seen[role] = take(socket, 4)
    assert [m["id"] for m in seen["viewer"]] == [m["id"] for m in seen["experimenter"]] == [1, 2, 3, 4]
    assert {key: seen["experimenter"][2][key] for key in truth} == truth
    assert not any(value in json.dumps(seen["viewer"]) for value in truth.values())
    assert {**seen["viewer"][2], **truth} == seen["experimenter"][2]
    with running.client("viewer") as client, client.stream("GET", f"/v1/sessions/{session}/events") as sse:
        text = "".join(itertools.islice(sse.iter_lines(), 14))
    assert '"event.added"' in text
    assert not any(value in text for value in truth.values())


def test_a_blinded_session_hides_the_truth_from_everybody_until_it_is_closed(running: Running) -> None:
    with running.client("experimenter") as client:
        subject = client.post("/v1/subjects", json={"bundle": "bundle-1"}).json()["subject"]
        opened = client.post("/v1/sessions", json={"subject": subject, "options": {"blinded": True}}).json()
        session = opened["session"]
        client.post(f"/v1/sessions/{session}/runs", json={"run": 1, "task": "view", "tr_s": 2.0, "n_volumes": 10})
        event = {"onset_s": 2.0, "duration_s": 3.0, "trial": 1, "label": "a secret face"}
        assert client.post(f"/v1/sessions/{session}/runs/1/events", json=event).status_code == 201
        with connect(ws_url(running, session), additional_headers=bearer(running, "experimenter")) as socket:
            before = take(socket, 3)
        client.post(f"/v1/sessions/{session}/close")
        with connect(ws_url(running, session), additional_headers=bearer(running, "experimenter")) as socket:
            after = take(socket, 4)
    assert before[0]["pool_size"] == 50
    assert "secret" not in json.dumps(before)
    assert after[2]["label"] == "a secret face"
    assert [m["id"] for m in after] == [1, 2, 3, 4]


def test_server_sent_events_resume_from_the_last_id(running: Running, bus: Bus, session: str) -> None:
    warn(bus, session, 2)
    with (
        running.client("viewer") as client,
        client.stream("GET", f"/v1/sessions/{session}/events", headers={"Last-Event-ID": "2"}) as sse,
    ):
        assert sse.headers["content-type"].startswith("text/event-stream")
        lines = sse.iter_lines()
        ids = [line for line in itertools.islice(lines, 9) if line.startswith("id:")]
        assert ids == ["id: 3", "id: 4"]
        warn(bus, session, 1)
        assert next(line for line in lines if line.startswith("id:")) == "id: 5"


def test_tickets_let_a_browser_in_once(running: Running, session: str) -> None:
    with running.client("viewer") as client:
        ticket = client.post("/v1/ws-tickets").json()
    assert ticket["expires_s"] == 30.0
    protocol = f"mindsight.ticket.{ticket['ticket']}"
    origin = running.url
    with connect(ws_url(running, session), subprotocols=["mindsight.v1", protocol], origin=origin) as socket:  # type: ignore[list-item, arg-type]
        assert socket.subprotocol == "mindsight.v1"
        assert take(socket, 1)[0]["id"] == 1
    with pytest.raises(InvalidStatus) as refused:
        connect(ws_url(running, session), subprotocols=[protocol])  # type: ignore[list-item]
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "auth.ticket"


@pytest.mark.parametrize(
    ("session_id", "after", "headers", "status", "code"),
    [
        (None, 0, {}, 401, "auth.missing"),
        (None, 0, {"Authorization": "Bearer ms_x"}, 401, "auth.key"),
        (None, 0, {"role": "console"}, 403, "auth.scope"),
        (None, 0, {"role": "admin", "Origin": "https://evil.example"}, 403, "auth.origin"),
        ("nowhere", 0, {"role": "admin"}, 404, "session.unknown"),
        (None, 10**6, {"role": "admin"}, 422, "cursor.unknown"),
        (None, -1, {"role": "admin"}, 422, "request.invalid"),
    ],
)
def test_a_stream_that_cannot_begin_gives_the_reason(
    running: Running, session: str, session_id: str | None, after: int, headers: dict[str, str], status: int, code: str
) -> None:
    headers = dict(headers)
    if role := headers.pop("role", None):
        headers |= bearer(running, role)
    with pytest.raises(InvalidStatus) as refused:
        connect(ws_url(running, session_id or session, after), additional_headers=headers)
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body or b"")["code"] == code
    assert refused.value.response.headers["content-type"] == "application/problem+json"


def test_a_revoked_key_loses_its_open_streams(running: Running, admin: httpx.Client, session: str) -> None:
    made = admin.post("/v1/keys", json={"role": "viewer"}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    with connect(ws_url(running, session, after=2), additional_headers=headers) as socket:
        socket.recv(timeout=5)
        admin.delete(f"/v1/keys/{made['id']}")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


def test_many_watchers_and_disconnects_leave_no_watcher_with_a_gap(running: Running, bus: Bus, session: str) -> None:
    """Six watchers come and go at random while messages are written; each one's ids are 1, 2, 3, ..."""
    total = 302
    seen: list[list[int]] = [[] for _ in range(6)]

    def watch(number: int) -> None:
        rng = random.Random(number)
        while len(seen[number]) < total:
            after = seen[number][-1] if seen[number] else 0
            url = ws_url(running, session, after)
            with connect(url, additional_headers=bearer(running), close_timeout=0.1) as socket:
                for _ in range(rng.randint(1, 60)):
                    if len(seen[number]) < total:
                        seen[number] += [message["id"] for message in take(socket, 1)]

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        warn(bus, session, 10)
        time.sleep(0.01)
    for thread in threads:
        thread.join(60)
    assert seen == [list(range(1, total + 1))] * 6


@pytest.fixture
def in_process(bus: Bus) -> Callable[..., Any]:
    def run(scenario: Callable[[Hub], Any]) -> Any:
        async def main() -> Any:
            hub = Hub(bus)
            hub.start()
            try:
                return await asyncio.wait_for(scenario(hub), 60)
            finally:
                await hub.stop()

        return asyncio.run(main())

    return run


def test_a_watcher_that_takes_nothing_costs_nothing_and_misses_nothing(
    in_process: Callable[..., Any], bus: Bus, session: str
) -> None:
    """It stops for longer than the ring holds, and reads the rest from the log."""
    n = RING + 300

    async def scenario(hub: Hub) -> list[int]:
        ids: list[int] = []
        stopped = False
        async for page in hub.follow(session, 0):  # or a tick, without a message
            ids += [frame.seq for frame in page] if isinstance(page, list) else []
            if ids and not stopped:
                stopped = True
                await asyncio.to_thread(warn, bus, session, n)
                await asyncio.sleep(0.5)  # the ring turns over meanwhile
            if len(ids) == n + 2:
                return ids
        raise AssertionError

    assert in_process(scenario) == list(range(1, n + 3))


@pytest.fixture
def impatient(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a second gateway over the same data, in this process, that waits half a second for a client."""
    monkeypatch.setattr(stream, "SEND_S", 0.5)
    monkeypatch.setattr(stream, "CLOSE_S", 0.2)
    listener = listen(running.settings.model_copy(update={"port": 0}))
    config = uvicorn.Config(
        create_app(running.settings), log_level="error", ws="websockets-sansio", ws_per_message_deflate=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


def test_a_stalled_websocket_is_given_up_and_others_are_served(
    running: Running, impatient: str, bus: Bus, session: str
) -> None:
    url = f"{impatient}/v1/sessions/{session}/stream"
    big = Warned(session=session, t=1.0, code="test", text="x" * 40_000)
    n = 600  # 24 MB: more than sockets and protocols buffer
    with connect(url, additional_headers=bearer(running), max_queue=1) as stalled:
        for number in range(n):
            Log(bus, session, "messages").append(f"big-{number}", dump_message(big))
        with connect(f"{url}?after={n + 1}", additional_headers=bearer(running)) as healthy:
            assert take(healthy, 1)[0]["id"] == n + 2
        time.sleep(2.0)
        ids: list[int] = []
        with suppress(ConnectionClosed):
            while True:
                ids += [message["id"] for message in take(stalled, 1)]
    assert ids == list(range(1, len(ids) + 1))
    assert 0 < len(ids) < n, "it was cut off, and what it got before has no gap"
    with connect(f"{url}?after={ids[-1]}", additional_headers=bearer(running)) as resumed:
        assert [m["id"] for m in take(resumed, n + 2 - len(ids))] == list(range(ids[-1] + 1, n + 3))


def test_a_replay_brings_the_same_messages_again_from_any_of_them(running: Running, bus: Bus, session: str) -> None:
    warn(bus, session, 8)
    url, key = ws_url(running, session), bearer(running)
    with connect(url, additional_headers=key) as live, connect(f"{url}&speed=20", additional_headers=key) as replayed:
        assert take(replayed, 10) == take(live, 10)
        tick = json.loads(replayed.recv(timeout=10))
        assert (tick["type"], tick["last"], tick["behind"]) == ("tick", 10, 0)
    with connect(f"{ws_url(running, session, 6)}&speed=1", additional_headers=key) as replayed:
        assert [message["id"] for message in take(replayed, 4)] == [7, 8, 9, 10]
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{url}&speed=21", additional_headers=key)
    assert refused.value.response.status_code == 422


def test_the_newest_volume_comes_on_its_lane_as_a_page_shows_it(
    running: Running, admin: httpx.Client, bus: Bus, session: str, make_payload: Callable[..., bytes]
) -> None:
    run = f"/v1/sessions/{session}/runs/1"
    with connect(ws_url(running, session, after=2), additional_headers=bearer(running, "viewer")) as socket:
        socket.send('{"type": "want", "lanes": ["volumes"]}')
        for index in (0, 1):
            assert admin.put(f"{run}/volumes/{index}", content=make_payload(index=index)).status_code == 200
            done = VolumeProcessed(session=session, t=1.0, run=1, index=index, censored=False)
            Log(bus, session, "messages").append(f"processed-1-{index}", dump_message(done))
        header, payload = take_item(socket)
        while header.details["index"] != 1:  # the first one may have been made before the second came
            header, payload = take_item(socket)
    assert (header.lane, header.media_type, header.message) == ("volumes", "application/gzip", 6)
    assert gzip.decompress(payload) == admin.get(f"{run}/volumes/1/view").content
