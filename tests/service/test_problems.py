from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import ConditionFailed, EmbeddedServer
from mindsight.bus.embedded import find_server
from mindsight.errors import Conflict, MindsightError
from mindsight.settings import Settings
from service import limits, transfer
from service.__main__ import check_address, listen
from service.app import create_app
from service.keys import create_keys
from service.problems import STATUS, status_of
from support.gateway_harness import PUBLIC, TLS, Running, payload, start_gateway, stop

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/nothing.html", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("DELETE", "/v1/sessions", 405),
        ("GET", "/v1/ws-tickets", 405),
        ("POST", "/index.html", 405),
        ("GET", "/v1/sessions/" + "x" * 65, 422),
        ("GET", "/v1/sessions/a%20b", 422),
        ("GET", "/v1/sessions/x/runs/0", 422),
        ("GET", "/v1/sessions/x/results?stage=quick", 422),
        ("GET", "/v1/images/../keys.json", 404),
        ("GET", "/v1/images/" + "A" * 64, 422),
    ],
)
def test_every_error_is_a_problem(admin: httpx.Client, method: str, path: str, status: int) -> None:
    answer = admin.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:mindsight:{problem['code']}"
    assert set(problem) == {"type", "title", "status", "detail", "code", "details"}


def test_a_problem_repeats_neither_what_was_sent_nor_where_it_lies(running: Running, admin: httpx.Client) -> None:
    seed = "DOE^JANE-1970"
    bodies: list[Any] = [{"subject": seed, "options": {seed: seed}}, {"subject": {"name": seed}}, [seed], seed]
    for body in bodies:
        answer = admin.post("/v1/sessions", json=body)
        assert answer.is_error
        assert seed not in answer.text.replace(f"options.{seed}", ""), answer.text
    for path in ("/v1/sessions/visit", f"/v1/images/{'0' * 64}", "/v1/sessions/x/runs/1"):
        assert str(running.settings.data_dir) not in admin.get(path).text


def test_the_description_of_the_interface_is_complete(running: Running) -> None:
    document = httpx.get(f"{running.url}/v1/openapi.json").json()
    operations = [(p, m, o) for p, methods in document["paths"].items() for m, o in methods.items()]
    assert len(operations) >= 22
    for path, method, operation in operations:
        failures = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert path in PUBLIC or {"401", "403", "422", "503"} <= set(failures), (method, path)
        for answer in failures.values():
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, (method, path)
            assert list(answer["content"]) == ["application/problem+json"], (method, path)
        assert operation["tags"], (method, path)

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values())) if node else own
        return set().union(*(references(value) for value in node)) if isinstance(node, list) and node else set()

    for reference in references(document):
        assert reference.rsplit("/", 1)[1] in document["components"]["schemas"], reference
    assert "HTTPValidationError" not in json.dumps(document["paths"])


def test_images_come_back_and_nothing_else_does(running: Running, admin: httpx.Client) -> None:
    digest = admin.post("/v1/images", content=PNG).json()["digest"]
    answer = admin.get(f"/v1/images/{digest}")
    assert (answer.content, answer.headers["content-type"]) == (PNG, "image/png")
    assert "immutable" in answer.headers["cache-control"]
    jpeg = admin.post("/v1/images", content=b"\xff\xd8\xff\xe0" + bytes(50)).json()["digest"]
    assert admin.get(f"/v1/images/{jpeg}").headers["content-type"] == "image/jpeg"
    for wrong in (b"", b"GIF89a", b"<svg onload=alert(1)>", b"MSV1" + bytes(50)):
        assert admin.post("/v1/images", content=wrong).json()["code"] == "image.format"
    assert admin.post("/v1/images", content=PNG + bytes(9 * 1024 * 1024)).status_code == 413
    volume = BlobStore(running.settings.blobs_dir).put(b"MSV1 a volume")
    assert admin.get(f"/v1/images/{volume}").json()["code"] == "image.unknown"


def test_a_body_is_bounded_before_anybody_looks_at_the_key(running: Running) -> None:
    """The whole of it is never read: neither as announced, nor in chunks that never end."""
    for body in (b" " * (3 * 1024 * 1024), iter([b" " * 65536] * 10_000)):
        try:
            answer = httpx.post(f"{running.url}/v1/sessions", content=body, timeout=20.0, verify=TLS)
        except httpx.TransportError:
            continue  # the gateway hung up before all was sent
        assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


def test_a_body_that_stops_coming_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SILENCE_S", 0.2)
    monkeypatch.setattr(transfer, "SILENCE_S", 0.2)
    keys = create_keys(tmp_path)
    app = create_app(Settings(data_dir=tmp_path))

    async def ask(path: str) -> tuple[int, dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost")]
        headers += [(b"authorization", b"Bearer " + keys["admin"].encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
        scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "app": app}
        await app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    for path in ("/v1/sessions", "/v1/images"):
        status, problem = asyncio.run(ask(path))
        assert (status, problem["code"]) == (408, "request.timeout")


def test_a_browser_trusts_nothing_from_elsewhere(running: Running) -> None:
    for path in ("/", "/v1/health", "/v1/sessions"):
        policy = httpx.get(running.url + path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws:")
        assert "unsafe" not in policy


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_an_address_others_can_reach_needs_a_proxy(host: str) -> None:
    with pytest.raises(Conflict, match="without TLS"):
        check_address(Settings(host=host))
    check_address(Settings(host=host, behind_proxy=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_is_fine(host: str) -> None:
    check_address(Settings(host=host))


def test_the_gateway_waits_for_its_bus_and_survives_its_pause(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, bus_timeout_s=0.3)
    process, url = start_gateway(settings)
    try:
        announced = json.loads((tmp_path / "gateway.json").read_text())
        assert announced == {"url": url, "pid": process.pid}
        with pytest.raises(Conflict, match="use another port"):
            listen(settings.model_copy(update={"port": int(url.rsplit(":", 1)[1])}))
        down = httpx.get(f"{url}/v1/health", verify=TLS)
        assert (down.status_code, down.json()["code"]) == (503, "bus.unavailable")
        assert down.headers["retry-after"] == "1"
        with EmbeddedServer(settings) as server:
            assert httpx.get(f"{url}/v1/health", verify=TLS).json()["status"] == "ok"
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            assert httpx.get(f"{url}/v1/health", verify=TLS).status_code == 503
            assert time.monotonic() - started < 4.0
            server.process.send_signal(signal.SIGCONT)
            assert httpx.get(f"{url}/v1/health", verify=TLS).status_code == 200
    finally:
        stop(process)
    assert not (tmp_path / "gateway.json").exists()


def test_a_first_start_prints_the_keys_and_a_second_does_not(tmp_path: Path) -> None:
    def printed() -> list[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", "0"],
            env={**os.environ, "MINDSIGHT_DATA_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 60
        while process.poll() is None and not (tmp_path / "gateway.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.terminate()
        out, _ = process.communicate(timeout=15)
        assert process.returncode == 0
        return [line.split()[0] for line in out.splitlines()]

    assert printed() == ["admin", "experimenter", "console", "viewer", "participant", "mindsight"]
    assert printed() == ["mindsight"]


def test_an_address_others_can_reach_is_refused_in_one_line_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    heavy = ("torch", "nibabel", "scipy", "numba", "pandas", "diffusers", "transformers")
    code = (
        "import sys; from service.__main__ import main; code = main(['--host', '0.0.0.0']); "
        f"print([name for name in {heavy} if name in sys.modules]); sys.exit(code)"
    )
    environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "without TLS" in done.stderr
    assert done.stdout.strip() == "[]"


def test_a_bus_with_a_full_disk_is_reported_and_no_acknowledged_volume_is_lost(tmp_path: Path) -> None:
    """The kernel refuses to let the bus's file grow (ulimit -f); then the bus is killed, and gets space."""
    settings = Settings(data_dir=tmp_path / "data")
    limited = tmp_path / "limited-server"
    limited.write_text(f"#!/bin/bash\ntrap '' XFSZ\nulimit -f 64\nexec {find_server(settings)} \"$@\"\n")
    limited.chmod(0o755)
    key = create_keys(settings.data_dir)["admin"]
    process, url = start_gateway(settings)
    acknowledged = 0
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10, verify=TLS) as client:
        with EmbeddedServer(settings.model_copy(update={"redis_server": str(limited)})) as server:
            subject = client.post("/v1/subjects").json()["subject"]
            session = client.post("/v1/sessions", json={"subject": subject}).json()["session"]
            client.post(f"/v1/sessions/{session}/runs", json={"run": 1, "task": "view", "tr_s": 2.0})
            while (answer := client.put(_volume(session, acknowledged), content=payload(acknowledged))).is_success:
                acknowledged += 1
            assert (answer.status_code, answer.json()["code"]) == (507, "bus.full")
            assert server.process is not None
            server.process.kill()
        with EmbeddedServer(settings):
            assert client.get(f"/v1/sessions/{session}/runs/1").json()["next_index"] >= acknowledged > 10
            again = client.put(_volume(session, acknowledged), content=payload(acknowledged))
            assert again.json()["next_index"] == acknowledged + 1
    stop(process)


def _volume(session: str, index: int) -> str:
    return f"/v1/sessions/{session}/runs/1/volumes/{index}"


def test_a_full_disk_is_reported_and_the_gateway_lives_on(tmp_path: Path) -> None:
    """The kernel refuses files over 256 KiB in the gateway's process (RLIMIT_FSIZE), as a full disk would."""
    settings = Settings(data_dir=tmp_path)
    environment = {**os.environ, "MINDSIGHT_DATA_DIR": str(tmp_path)}
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (262144, 262144)); "
        "from service.__main__ import main; sys.exit(main(['--port', '0']))"
    )
    with EmbeddedServer(settings):
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(6)]
        client = httpx.Client(base_url=lines[5][-1], headers={"Authorization": f"Bearer {lines[0][-1]}"}, timeout=10)
        with client:
            subject = client.post("/v1/subjects").json()["subject"]
            session = client.post("/v1/sessions", json={"subject": subject}).json()["session"]
            client.post(f"/v1/sessions/{session}/runs", json={"run": 1, "task": "view", "tr_s": 2.0})
            url = f"/v1/sessions/{session}/runs/1/volumes/0"
            full = client.put(url, content=payload(0, shape=(64, 64, 64)))
            assert (full.status_code, full.json()["code"]) == (507, "storage.full")
            assert str(tmp_path) not in full.text
            assert client.get(f"/v1/sessions/{session}/runs/1").json()["next_index"] == 0
            assert client.put(url, content=payload(0)).json()["next_index"] == 1
        stop(process)


def test_every_class_of_error_has_its_status() -> None:
    def classes(of: type[MindsightError]) -> set[type[MindsightError]]:
        return {of}.union(*(classes(sub) for sub in of.__subclasses__()))

    own = {kind for kind in classes(MindsightError) if kind.__module__ == "mindsight.errors"}
    assert own <= set(STATUS)
    assert status_of(ConditionFailed("session", present=False)) == 409  # of the class that it comes from
    assert {kind.__name__ for kind in own if kind.is_transient} == {
        "BusUnavailable",
        "DeadlineExceeded",
        "ServiceUnavailable",
        "StorageFull",
        "StorageUnavailable",
    }
