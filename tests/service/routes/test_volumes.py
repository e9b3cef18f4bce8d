"""What a volume is refused for before it is logged, and what putting one costs the bus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from mindsight.bus import Bus, EmbeddedServer
from mindsight.settings import Settings
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from service.app import create_app
from service.keys import create_keys


def of_tr(tr_s: float) -> bytes:
    return encode_volume(Volume(np.zeros((4, 5, 6), np.int16), np.eye(4), tr_s, 1, 0))


@pytest.mark.parametrize("tr_s", [1.5, 2.1, 0.35])
def test_another_tr_is_refused_by_both_figures(admin: httpx.Client, session: str, tr_s: float) -> None:
    """The run of the session was declared with 2 s."""
    place = f"/v1/sessions/{session}/runs/1/volumes/0"
    refused = admin.put(place, content=of_tr(tr_s))
    assert refused.status_code == 422
    assert refused.json()["code"] == "volume.tr_mismatch"
    assert "2 s" in refused.json()["detail"]
    assert f"{tr_s:g} s" in refused.json()["detail"]
    assert admin.put(place, content=of_tr(2.0004)).status_code == 200  # rounding


def test_a_volume_costs_three_round_trips_to_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_payload: Callable[..., bytes]
) -> None:
    """Its run's declaration, its entry in the input log, its message: none of them can be left out or joined."""
    n_commands = 0
    command = Bus.command

    def counted(bus: Bus, *args: Any, **options: Any) -> Any:
        nonlocal n_commands
        n_commands += 1
        return command(bus, *args, **options)

    monkeypatch.setattr(Bus, "command", counted)
    settings = Settings(data_dir=tmp_path)
    key = {"Authorization": f"Bearer {create_keys(tmp_path)['admin']}"}
    with EmbeddedServer(settings), TestClient(create_app(settings), headers=key) as client:
        subject = client.post("/v1/subjects").json()["subject"]
        base = "/v1/sessions/" + client.post("/v1/sessions", json={"subject": subject}).json()["session"]
        client.post(f"{base}/runs", json={"run": 1, "task": "view", "tr_s": 2.0})

        def cost(send: Callable[[], httpx.Response]) -> int:
            before = n_commands
            assert send().is_success
            return n_commands - before

        def put(index: int) -> httpx.Response:
            return client.put(f"{base}/runs/1/volumes/{index}", content=make_payload(index))

        cost(lambda: put(0))  # the first command of a connection also asks for the server's version
        assert [cost(lambda index=index: put(index)) for index in (1, 2, 1)] == [3, 3, 3]
        assert cost(lambda: client.post(f"{base}/runs/1/volumes/3/missing")) == 2
