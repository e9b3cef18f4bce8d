from __future__ import annotations

import httpx

from mindsight.bus import Bus, Log
from mindsight.protocol import Captioned, Reconstruction, dump_message


def test_results_are_what_was_decoded_drawn_and_captioned(admin: httpx.Client, session: str, bus: Bus) -> None:
    where = {"session": session, "t": 1.0, "run": 1}
    drawn = Reconstruction(
        **where, trial=1, stage="final", image="0" * 64, confidence=0.5, seed=7, evaluations=4, generator="1" * 64
    )
    log = Log(bus, session, "messages")
    log.append("drawn", dump_message(drawn))
    for trial in (1, 2):
        caption = Captioned(**where, trial=trial, stage="final", text=f"a dog, {trial}", model="2" * 64)
        log.append(f"caption-{trial}", dump_message(caption))
    found = admin.get(f"/v1/sessions/{session}/results", params={"trial": 1}).json()
    assert found["results"] == []
    assert [one["seed"] for one in found["reconstructions"]] == [7]
    assert [one["text"] for one in found["captions"]] == ["a dog, 1"]
