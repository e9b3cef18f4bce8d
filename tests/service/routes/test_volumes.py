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
from mindsight.bus.servers import Server
from mindsight.settings import Settings
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from service.app import create_app
from service.keys import create_keys
from support.gateway_harness import Running
from support.rest import inputs, problem, put


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
    n_asked = 0
    ask = Server.ask

    def counted(server: Server, *args: Any, **options: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        return ask(server, *args, **options)

    monkeypatch.setattr(Server, "ask", counted)
    settings = Settings(data_dir=tmp_path)
    key = {"Authorization": f"Bearer {create_keys(tmp_path)['admin']}"}
    with EmbeddedServer(settings), TestClient(create_app(settings), base_url="http://localhost", headers=key) as client:
        subject = client.post("/v1/subjects").json()["subject"]
        base = "/v1/sessions/" + client.post("/v1/sessions", json={"subject": subject}).json()["session"]
        client.post(f"{base}/runs", json={"run": 1, "task": "view", "tr_s": 2.0})

        def cost(send: Callable[[], httpx.Response]) -> int:
            before = n_asked
            assert send().is_success
            return n_asked - before

        def put(index: int) -> httpx.Response:
            return client.put(f"{base}/runs/1/volumes/{index}", content=make_payload(index))

        cost(lambda: put(0))  # the first command of a connection also asks for the server's version
        assert [cost(lambda index=index: put(index)) for index in (1, 2, 1)] == [3, 3, 3]
        assert cost(lambda: client.post(f"{base}/runs/1/volumes/3/missing")) == 2


def test_volumes_come_in_order_or_say_what_is_expected(
    admin: httpx.Client, bus: Bus, session: str, make_payload: Callable[..., bytes]
) -> None:
    found = problem(put(admin, session, 1, make_payload(1)), 409, "volume.out_of_order")
    assert found["details"] == {"expected_index": 0}
    assert put(admin, session, 0, make_payload(0)).is_success
    other = problem(put(admin, session, 0, make_payload(0, seed=9)), 409, "log.diverged")
    assert "volume 0 of run 1 is in the log with other content, which is never overwritten" in str(other["detail"])
    assert admin.post(f"/v1/sessions/{session}/runs/1/volumes/1/missing").is_success
    problem(put(admin, session, 1, make_payload(1)), 409, "volume.settled")
    problem(admin.post(f"/v1/sessions/{session}/runs/1/volumes/0/missing"), 409, "volume.settled")
    assert put(admin, session, 2, make_payload(2)).json()["next_index"] == 3
    assert inputs(bus, session)[2:] == ["volume-1-0", "volume-1-1", "volume-1-2"]


def test_bad_volumes_get_one_clear_error_and_the_next_good_one_is_taken(
    running: Running, admin: httpx.Client, session: str, make_payload: Callable[..., bytes]
) -> None:
    good = make_payload(0)
    problem(put(admin, session, 0, b""), 422, "volume.payload_magic")
    problem(put(admin, session, 0, b"DICM" * 1000), 422, "volume.payload_magic")
    problem(put(admin, session, 0, good[:-1]), 422, "volume.payload_truncated")
    problem(put(admin, session, 0, good + b"x"), 422, "volume.payload_trailing")
    problem(put(admin, session, 0, good[:40]), 422, "volume.payload_truncated")
    problem(put(admin, session, 0, make_payload(5)), 422, "volume.misplaced")
    problem(put(admin, session, 0, good, **{"X-Content-SHA256": "0" * 64}), 422, "volume.digest_mismatch")
    limit = running.settings.max_volume_bytes
    found = problem(put(admin, session, 0, bytes(limit + 1)), 413, "request.too_large")
    assert found["details"] == {"limit": limit}
    assert put(admin, session, 0, good).json()["duplicate"] is False
    shape = problem(put(admin, session, 1, make_payload(1, shape=(8, 8, 5))), 422, "volume.shape_mismatch")
    assert shape["details"] == {"expected": "8x8x4", "got": "8x8x5"}
    assert put(admin, session, 1, make_payload(1)).json()["next_index"] == 2
    assert list((running.settings.blobs_dir / "incoming").iterdir()) == []


def test_a_chunked_body_over_the_limit_is_cut_off(running: Running, admin: httpx.Client, session: str) -> None:
    sent = 0

    def body() -> object:
        nonlocal sent
        while sent < 16 * running.settings.max_volume_bytes:
            sent += 65536
            yield bytes(65536)

    url = f"/v1/sessions/{session}/runs/1/volumes/0"
    try:
        answer = admin.put(url, content=body())  # type: ignore[arg-type]
    except httpx.TransportError:
        pass  # the gateway hung up before all was sent
    else:
        assert answer.status_code in (413, 422)
    assert list((running.settings.blobs_dir / "incoming").iterdir()) == []


def test_the_first_received_volume_gives_the_shape_also_after_missing_ones(
    admin: httpx.Client, session: str, make_payload: Callable[..., bytes]
) -> None:
    for index in range(2):
        assert admin.post(f"/v1/sessions/{session}/runs/1/volumes/{index}/missing").is_success
    assert put(admin, session, 2, make_payload(2)).is_success
    problem(put(admin, session, 3, make_payload(3, shape=(4, 4, 4))), 422, "volume.shape_mismatch")
