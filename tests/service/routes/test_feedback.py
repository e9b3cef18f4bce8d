"""What a participant's screen receives: what the experimenter chose, and no byte of anything else."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Log
from mindsight.protocol import Candidate, Reconstruction, Result, VolumeReceived, dump_message
from support.gateway_harness import Running

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 500
DIGEST = "ab" * 32


def screen(running: Running, session: str, role: str = "participant") -> ClientConnection:
    address = f"ws{running.url.removeprefix('http')}/v1/sessions/{session}/participant"
    return connect(address, additional_headers={"Authorization": f"Bearer {running.keys[role]}"})  # type: ignore[index]


def take(socket: ClientConnection) -> tuple[dict[str, Any], bytes]:
    """The next that is not a pong, and the picture that came with it."""
    while True:
        frame = socket.recv(timeout=20)
        if isinstance(frame, str):
            message, picture = json.loads(frame), b""
        else:
            end = 4 + int.from_bytes(frame[:4], "big")
            message, picture = json.loads(frame[4:end]), frame[end:]
        if message["type"] != "pong":
            return message, picture


def take_all(socket: ClientConnection) -> None:
    while True:
        take(socket)


def reported(log: Log) -> dict[str, Any]:
    """The first report of a screen in the log."""
    for _ in range(200):
        for entry in log.read():
            if b'"feedback.drawn"' in entry.payload:
                found: dict[str, Any] = json.loads(entry.payload)
                return found
        time.sleep(0.1)
    raise AssertionError("nothing was reported within 20 s")


def result(session: str, trial: int) -> Result:
    return Result(
        session=session, t=time.time(), run=1, trial=trial, stage="fast", confidence=0.7, null_confidence=0.1,
        candidates=(Candidate(id="dog-1", label="dog", score=1.0),), chance=0.1, pool_size=10, model=DIGEST,
        pool=DIGEST, normalised_by="bundle",
    )  # fmt: skip


def test_a_screen_shows_what_was_chosen_and_reports_what_it_drew(
    running: Running, admin: httpx.Client, bus: Bus, session: str
) -> None:
    image = BlobStore(running.settings.blobs_dir).put(PNG)
    log = Log(bus, session, "messages")
    plan = {
        "show": "reconstruction",
        "deadline_s": 60,
        "fallback": {"show": "text", "text": "rest"},
        "patch": "top-left",
    }
    chosen = admin.put(f"/v1/sessions/{session}/feedback", json=plan).json()
    assert admin.put(f"/v1/sessions/{session}/feedback", json=plan).json() == chosen
    assert admin.get(f"/v1/sessions/{session}/feedback").json() == chosen
    events = [
        {"onset_s": 2.0 * trial, "duration_s": 1.0, "trial": trial, "label": "a secret face"} for trial in (1, 2, 3)
    ]
    assert admin.post(f"/v1/sessions/{session}/runs/1/events", json=events).status_code == 201
    frames: list[str] = []
    with screen(running, session) as socket:
        assert take(socket)[0] == {"type": "plan", "patch": "top-left", "hold_s": 2.0}
        log.append("r1", dump_message(result(session, 1)))  # not what was chosen
        drawing = Reconstruction(
            session=session, t=time.time(), run=1, trial=1, stage="fast", image=image, seed=1, evaluations=4,
            generator=DIGEST,
        )  # fmt: skip
        log.append("p1", dump_message(drawing))
        show, picture = take(socket)
        assert (show["number"], show["what"], show["media_type"], picture) == (1, "picture", "image/png", PNG)
        frames.append(json.dumps(show))
        socket.send(json.dumps({"type": "ping", "sent": 5.0}))
        t = time.time()
        socket.send(json.dumps({"type": "drawn", "number": 1, "requested_t": t, "drawn_t": t + 0.02, "patch": "white",
                                "clock_ms": 0.4}))  # fmt: skip
        admin.put(f"/v1/sessions/{session}/feedback", json=plan | {"show": "confidence", "patch": "none"})
        assert take(socket)[0]["patch"] == "none"
        log.append("r2", dump_message(result(session, 2)))
        show, _ = take(socket)
        assert (show["number"], show["what"], show["value"]) == (2, "bar", 0.7)
        admin.put(f"/v1/sessions/{session}/feedback", json=plan | {"deadline_s": 0.1})
        assert take(socket)[0]["type"] == "plan"
        began = VolumeReceived(session=session, t=time.time() - 10, run=1, index=0)  # trial 3 is over
        log.append("v", dump_message(began))
        show, _ = take(socket)
        assert (show["what"], show["text"]) == ("text", "rest")
        frames.append(json.dumps(show))
    assert "secret" not in "".join(frames)
    assert not {"trial", "run", "session", "image"} & set("".join(frames).replace('"', " ").split())
    drawn = reported(log)
    assert (drawn["run"], drawn["trial"], drawn["what"], drawn["fallback"]) == (1, 1, "picture", False)
    assert (drawn["patch"], round(drawn["drawn_t"] - drawn["requested_t"], 3)) == ("white", 0.02)


def test_the_screens_key_opens_nothing_else(running: Running, session: str) -> None:
    with running.client("participant") as client:
        for path in ("", "/events", "/results", "/feedback", "/runs"):
            assert client.get(f"/v1/sessions/{session}{path}").status_code == 403
        assert client.get(f"/v1/images/{DIGEST}").status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        screen(running, session, "viewer")
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        screen(running, "nowhere")
    assert refused.value.response.status_code == 404


def test_what_a_screen_cannot_say_closes_it(running: Running, session: str) -> None:
    with screen(running, session) as socket:
        socket.send('{"type": "want", "lanes": ["pictures"]}')
        with pytest.raises(ConnectionClosed) as closed:
            take_all(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


@pytest.mark.parametrize("fallback", [{"show": "text"}, {"show": "nothing", "text": "rest"}, {"show": "stimulus"}])
def test_a_fallback_that_cannot_be_shown_is_refused(
    admin: httpx.Client, session: str, fallback: dict[str, str]
) -> None:
    refused = admin.put(f"/v1/sessions/{session}/feedback", json={"show": "candidate", "fallback": fallback})
    assert refused.status_code == 422
