from __future__ import annotations

import httpx

from mindsight.bus import Bus, Log
from mindsight.protocol import Captioned, Reconstruction, ReconstructionFit, dump_message


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
