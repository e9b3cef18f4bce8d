from __future__ import annotations

import json

import httpx

from mindsight.bus import Bus, Log
from mindsight.protocol import Candidate, Captioned, Reconstruction, ReconstructionFit, Result, dump_message
from support.gateway_harness import Running


def test_results_are_what_was_decoded_drawn_measured_and_captioned(admin: httpx.Client, session: str, bus: Bus) -> None:
    where = {"session": session, "t": 1.0, "run": 1}
    drawn = Reconstruction(**where, trial=1, stage="final", image="0" * 64, seed=7, evaluations=4, generator="1" * 64)
    log = Log(bus, session, "messages")
    log.append("drawn", dump_message(drawn))
    fit = ReconstructionFit(**where, trial=1, stage="final", image="0" * 64, token_cosine=0.8, encoder="3" * 64)
    log.append("fit", dump_message(fit))
    for trial in (1, 2):
        caption = Captioned(**where, trial=trial, stage="final", text=f"a dog, {trial}", model="2" * 64)
        log.append(f"caption-{trial}", dump_message(caption))
    found = admin.get(f"/v1/sessions/{session}/results", params={"trial": 1}).json()
    assert found["results"] == []
    assert [one["seed"] for one in found["reconstructions"]] == [7]
    assert [(one["image"], one["token_cosine"], one["fit_percentile"]) for one in found["fits"]] == [
        ("0" * 64, 0.8, None)
    ]
    assert [one["text"] for one in found["captions"]] == ["a dog, 1"]


def test_a_blinded_viewer_learns_neither_what_was_shown_nor_what_was_shown_twice(
    running: Running, admin: httpx.Client, session: str, bus: Bus
) -> None:
    image = b"\x89PNG\r\n\x1a\n" + session.encode()
    digest = admin.post("/v1/images", content=image).json()["digest"]
    found = Result(
        session=session, t=1.0, run=1, trial=1, stage="final", confidence=0.5, null_confidence=0.1, chance=0.1,
        candidates=(Candidate(id="c", score=0.5, probability=0.5),), pool_size=10, model="0" * 64, pool="1" * 64,
        normalised_by="bundle", n_repeats=3,
    )  # fmt: skip
    Log(bus, session, "messages").append("result", dump_message(found))
    path = f"/v1/sessions/{session}"
    for role, status, n_repeats in (("experimenter", 200, 3), ("viewer", 404, 1)):
        with running.client(role) as client:
            assert client.get(f"/v1/images/{digest}").status_code == status
            assert client.get(f"{path}/results").json()["results"][0]["n_repeats"] == n_repeats
            with client.stream("GET", f"{path}/events") as events:
                lines = (json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: "))
                assert next(m["n_repeats"] for m in lines if m["type"] == "result") == n_repeats
