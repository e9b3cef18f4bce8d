"""Nobody keeps a volume waiting by asking often, and wrong keys are slowed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from mindsight.settings import Settings
from service import context
from service.app import create_app
from service.keys import create_keys
from service.rates import MAX_NAMES, Buckets
from support.gateway_harness import TLS, Running


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    now_s = 0.0
    buckets = Buckets(per_s=2.0, burst=3.0, clock=lambda: now_s)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b"), "each name has its own"
    now_s = 0.5
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    now_s = 100.0
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False], "it fills up to its burst"


def test_names_without_end_take_no_memory_without_end() -> None:
    buckets = Buckets(per_s=1.0, burst=1.0)
    for number in range(MAX_NAMES + 50):
        buckets.take(str(number))
    assert len(buckets._left) == MAX_NAMES


@pytest.mark.slow
def test_a_reader_without_measure_is_slowed_and_a_volume_is_taken_meanwhile(
    running: Running, session: str, make_payload: Callable[..., bytes]
) -> None:
    def read(_: int) -> int:
        return viewer.get(f"/v1/sessions/{session}/results").status_code

    with running.client("admin") as admin:  # a key of its own, which no other test uses
        key = admin.post("/v1/keys", json={"role": "viewer"}).json()["key"]
    viewer = httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, verify=TLS, timeout=30.0)
    with viewer, running.client("console") as console, ThreadPoolExecutor(8) as threads:
        reading = [threads.submit(read, n) for n in range(int(context.REQUEST_BURST) + 300)]
        put = console.put(f"/v1/sessions/{session}/runs/1/volumes/0", content=make_payload(index=0))
        assert put.status_code == 200, put.text
        statuses = {future.result() for future in reading}
        refused = viewer.get(f"/v1/sessions/{session}/results")
        while refused.status_code == 200:
            refused = viewer.get(f"/v1/sessions/{session}/results")
    assert statuses <= {200, 429}
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("request.rate", "1")


def test_wrong_keys_are_slowed_and_right_ones_let_in(tmp_path: Path) -> None:
    keys = create_keys(tmp_path)
    wrong = {"Authorization": f"Bearer ms_{'0' * 8}_{'A' * 43}"}
    right = {"Authorization": f"Bearer {keys['admin']}"}
    client = TestClient(create_app(Settings(data_dir=tmp_path)), base_url="http://localhost")
    burst = int(context.WRONG_KEY_BURST)
    statuses = [client.get("/v1/keys", headers=wrong).status_code for _ in range(burst + 10)]
    assert statuses[:burst] == [401] * burst
    assert statuses[-1] == 429
    assert client.get("/v1/keys", headers=right).status_code == 200
