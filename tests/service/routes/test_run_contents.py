from __future__ import annotations

from collections.abc import Callable

import httpx

from mindsight.bus import Bus, Log
from mindsight.protocol import VolumeProcessed, dump_message
from support.gateway_harness import Running

SECRET = "a secret face"


def test_a_run_lists_its_events_and_its_volumes(
    running: Running, admin: httpx.Client, bus: Bus, session: str, make_payload: Callable[..., bytes]
) -> None:
    run = f"/v1/sessions/{session}/runs/1"
    events = [{"onset_s": 2.0 * k, "duration_s": 1.0, "trial": k, "label": SECRET} for k in (1, 2, 3)]
    admin.post(f"{run}/events", json=events)
    assert admin.put(f"{run}/volumes/0", content=make_payload(index=0)).status_code == 200
    admin.post(f"{run}/volumes/1/missing", json={"reason": "the line was cut"})
    message = VolumeProcessed(session=session, t=1.0, run=1, index=0, fd_mm=0.2, censored=False)
    Log(bus, session, "messages").append("processed-1-0", dump_message(message))
    first, second = admin.get(f"{run}/volumes").json()
    assert (first["index"], first["processed"]["fd_mm"], first["missing"]) == (0, 0.2, None)
    assert (second["index"], second["received_t"], second["missing"]) == (1, None, "the line was cut")
    shown = admin.get(f"{run}/events?limit=2")
    assert [event["label"] for event in shown.json()] == [SECRET] * 2
    assert [event["trial"] for event in admin.get(shown.links["next"]["url"]).json()] == [3]
    with running.client("viewer") as viewer:
        blinded = viewer.get(f"{run}/events")
        assert [event["trial"] for event in blinded.json()] == [1, 2, 3]
        assert SECRET not in blinded.text
    assert admin.get(f"/v1/sessions/{session}/runs/2/volumes").json()["code"] == "run.unknown"
