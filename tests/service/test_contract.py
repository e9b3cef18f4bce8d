"""The interface does what its description says: requests made from the description itself, valid ones and broken ones.

No response is a 5xx, has an undescribed status or content type, or a body that its schema does not allow; nothing that
the description forbids is accepted.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as how
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from mindsight.bus import EmbeddedServer
from mindsight.settings import Settings
from service.__main__ import listen
from service.app import create_app
from service.keys import create_keys
from service.rates import Buckets

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
ENDLESS = {"/v1/sessions/{session}/events"}  # a stream: tests/service/routes/test_messages.py reads it
N_LONG = 1000  # `make contract` asks for 5,000 and more


@dataclass
class Gateway:
    url: str
    document: dict[str, Any]
    key: str
    known: dict[str, Any]
    statuses: Counter[int] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway in this process that counts no requests, with a subject, a session and a run."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("contract"), port=0)
    keys = create_keys(settings.data_dir)
    with EmbeddedServer(settings):
        app = create_app(settings)
        app.state.gateway.requests = Buckets(1e9, 1e9)
        listener = listen(settings)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            document = app.openapi() | {"security": []}  # every request has a good key: tests/service/test_auth.py
            document["components"].pop("securitySchemes")
            yield Gateway(url, document, keys["admin"], _made(url, keys["admin"]))
        finally:
            server.should_exit = True
            thread.join(10)
            listener.close()


def _made(url: str, key: str) -> dict[str, Any]:
    """Values of addresses that there are."""
    headers = {"Authorization": f"Bearer {key}"}
    subject = requests.post(f"{url}/v1/subjects", headers=headers, timeout=10).json()["subject"]
    opened = requests.post(f"{url}/v1/sessions", headers=headers, json={"subject": subject}, timeout=10).json()
    session = opened["session"]
    run = {"run": 1, "task": "view", "tr_s": 2.0}
    requests.post(f"{url}/v1/sessions/{session}/runs", headers=headers, json=run, timeout=10)
    return {"subject": subject, "session": session, "run": 1}


def run_cases(gateway: Gateway, per_operation: int, mode: GenerationMode, *, same: bool = True, every: int = 1) -> None:
    """``per_operation`` requests for each operation; fails with the first response that breaks the description.

    same : the same requests each time, and of one session; otherwise each operation has an open session of its own
    every : of how many operations one is tried
    """
    schema = schemathesis.openapi.from_dict(gateway.document)
    for found in list(schema.get_all_operations())[::every]:
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        if not same:  # an operation before it may have closed or erased the others
            gateway.known = _made(gateway.url, gateway.key)
        with requests.Session() as session:
            _try(gateway, operation, session, per_operation, mode, same)


def _try(gateway: Gateway, operation: Any, session: requests.Session, n: int, mode: GenerationMode, same: bool) -> None:
    authorised = {"Authorization": f"Bearer {gateway.key}"}
    calm = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

    @how(max_examples=n, deadline=None, database=None, derandomize=same, suppress_health_check=calm,
         phases=[Phase.generate])  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        checks = CHECKS
        if sum(gateway.statuses.values()) % 4:  # mostly what there is: what is not is a 404
            checks = [one for one in CHECKS if one is not negative_data_rejection]  # the address may be mended by this
            case.path_parameters = {
                name: gateway.known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        response = case.call(base_url=gateway.url, session=session, headers=authorised, timeout=30)
        gateway.statuses[response.status_code] += 1
        case.validate_response(response, checks=checks)

    with suppress(Unsatisfiable):  # nothing of it can be broken: it takes no input
        check()


@pytest.mark.filterwarnings("ignore")
def test_every_operation_keeps_its_description(gateway: Gateway) -> None:
    run_cases(gateway, 1, GenerationMode.POSITIVE)
    run_cases(gateway, 1, GenerationMode.NEGATIVE, every=3)
    assert {200, 201, 404, 422} <= gateway.statuses.keys(), gateway.statuses


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_thousands_of_requests_keep_the_description(gateway: Gateway) -> None:
    """MINDSIGHT_TEST_CASES=50000 asks for more of them."""
    wanted = int(os.environ.get("MINDSIGHT_TEST_CASES", N_LONG))
    gateway.statuses.clear()
    n_operations = sum(len(item) for item in gateway.document["paths"].values())
    while (left := wanted - sum(gateway.statuses.values())) > 0:
        per_operation = 1 + left // (2 * n_operations)  # some have nothing that can be broken
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            run_cases(gateway, per_operation, mode, same=False)
            print(f"{sum(gateway.statuses.values())} cases: {dict(gateway.statuses)}", flush=True)
