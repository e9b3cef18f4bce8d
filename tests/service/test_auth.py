from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mindsight.errors import NotAllowed, NotFound
from mindsight.settings import Settings
from service import keys as keys_module
from service.app import create_app
from service.keys import ROLES, KeyStore, Role, create_keys
from support.gateway_harness import PUBLIC, Running


def _routes(settings: Settings) -> list[APIRoute | APIWebSocketRoute]:
    """Every route of the app; FastAPI keeps an included router as one entry, so look inside."""

    def walk(routes: list[Any]) -> Iterator[APIRoute | APIWebSocketRoute]:
        for route in routes:
            if isinstance(route, APIRoute | APIWebSocketRoute):
                yield route
            elif included := getattr(route, "original_router", None):
                yield from walk(included.routes)

    return list(walk(create_app(settings).routes))


def test_every_route_asks_for_a_scope(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    routes = _routes(settings)
    described = create_app(settings).openapi()["paths"]
    assert {route.path for route in routes if isinstance(route, APIRoute)} == set(described), "the walk missed some"
    assert [route.path for route in routes if isinstance(route, APIWebSocketRoute)] == [
        "/v1/sessions/{session}/participant",
        "/v1/sessions/{session}/stream",
    ]
    for route in routes:
        guarded = any(hasattr(dependency.call, "scopes") for dependency in route.dependant.dependencies)
        assert guarded != (route.path in PUBLIC), route.path


# What a role may do, by one harmless request each: 404 or 422 means it was let in.
REQUESTS: dict[str, tuple[str, str, set[Role]]] = {
    "enrol": ("POST", "/v1/subjects", {"admin", "experimenter", "console"}),
    "list subjects": ("GET", "/v1/subjects", {"admin", "experimenter", "console", "viewer"}),
    "subject": ("GET", "/v1/subjects/x", {"admin", "experimenter", "console", "viewer"}),
    "consent": ("PUT", "/v1/subjects/x/consent", {"admin", "experimenter", "console"}),
    "erase": ("DELETE", "/v1/subjects/x", {"admin"}),
    "calibrate": ("POST", "/v1/subjects/x/calibrations", {"admin", "experimenter", "console"}),
    "calibrations": ("GET", "/v1/subjects/x/calibrations", {"admin", "experimenter", "console", "viewer"}),
    "versions": ("GET", "/v1/subjects/x/bundles", {"admin", "experimenter", "console", "viewer"}),
    "activate": ("POST", "/v1/subjects/x/bundles/1/activate", {"admin", "experimenter", "console"}),
    "roll back": ("POST", "/v1/subjects/x/bundles/rollback", {"admin", "experimenter", "console"}),
    "export": ("GET", "/v1/subjects/x/bundles/1/export", {"admin", "experimenter"}),
    "report": ("GET", "/v1/subjects/x/bundles/1/report.html", {"admin", "experimenter"}),
    "figures": ("GET", "/v1/subjects/x/bundles/1/report.json", {"admin", "experimenter"}),
    "build pool": ("POST", "/v1/pools", {"admin", "experimenter", "console"}),
    "pools": ("GET", "/v1/pools", {"admin", "experimenter", "console", "viewer"}),
    "jobs": ("GET", "/v1/jobs", {"admin", "experimenter", "console", "viewer"}),
    "job": ("GET", "/v1/jobs/x", {"admin", "experimenter", "console", "viewer"}),
    "job messages": ("GET", "/v1/jobs/x/messages", {"admin", "experimenter", "console", "viewer"}),
    "cancel": ("DELETE", "/v1/jobs/x", {"admin", "experimenter", "console"}),
    "resume": ("POST", "/v1/jobs/x/resume", {"admin", "experimenter", "console"}),
    "bundle": ("PUT", "/v1/subjects/x/bundle", {"admin", "experimenter", "console"}),
    "open": ("POST", "/v1/sessions", {"admin", "experimenter", "console"}),
    "sessions": ("GET", "/v1/sessions", {"admin", "experimenter", "console", "viewer"}),
    "session": ("GET", "/v1/sessions/x", {"admin", "experimenter", "console", "viewer"}),
    "close": ("POST", "/v1/sessions/x/close", {"admin", "experimenter", "console"}),
    "declare": ("POST", "/v1/sessions/x/runs", {"admin", "experimenter", "console"}),
    "runs": ("GET", "/v1/sessions/x/runs", {"admin", "experimenter", "console", "viewer"}),
    "run": ("GET", "/v1/sessions/x/runs/1", {"admin", "experimenter", "console", "viewer"}),
    "end": ("POST", "/v1/sessions/x/runs/1/end", {"admin", "experimenter", "console"}),
    "events": ("POST", "/v1/sessions/x/runs/1/events", {"admin", "experimenter", "console"}),
    "run's events": ("GET", "/v1/sessions/x/runs/1/events", {"admin", "experimenter", "viewer"}),
    "run's volumes": ("GET", "/v1/sessions/x/runs/1/volumes", {"admin", "experimenter", "viewer"}),
    "volume": ("PUT", "/v1/sessions/x/runs/1/volumes/0", {"admin", "experimenter", "console"}),
    "missing": ("POST", "/v1/sessions/x/runs/1/volumes/0/missing", {"admin", "experimenter", "console"}),
    "check": ("POST", "/v1/sessions/check", {"admin", "experimenter", "console"}),
    "status": ("GET", "/v1/sessions/x/status", {"admin", "experimenter", "console", "viewer"}),
    "instruct": ("POST", "/v1/sessions/x/instructions", {"admin", "experimenter", "console"}),
    "console key": ("POST", "/v1/sessions/x/keys", {"admin", "experimenter", "console"}),
    "simulate": ("POST", "/v1/simulations", {"admin", "experimenter", "console"}),
    "service": ("GET", "/v1/service", {"admin", "experimenter", "console"}),
    "audit": ("GET", "/v1/service/audit", {"admin"}),
    "own key": ("GET", "/v1/keys/own", {"admin", "experimenter", "console", "viewer", "participant"}),
    "limits": ("POST", "/v1/sessions/x/limits", {"admin", "experimenter", "console"}),
    "warn": ("POST", "/v1/sessions/x/warnings", {"admin", "experimenter", "console"}),
    "results": ("GET", "/v1/sessions/x/results", {"admin", "experimenter", "viewer"}),
    "erase session": ("DELETE", "/v1/sessions/x", {"admin"}),
    "session report": ("GET", "/v1/sessions/x/report.html", {"admin", "experimenter"}),
    "export session": ("GET", "/v1/sessions/x/export", {"admin", "experimenter"}),
    "beta": ("GET", "/v1/sessions/x/betas/" + "0" * 64, {"admin", "experimenter", "viewer"}),
    "sse": ("GET", "/v1/sessions/x/events", {"admin", "experimenter", "viewer"}),
    "regions": ("GET", "/v1/sessions/x/rois", {"admin", "experimenter", "console", "viewer"}),
    "region": ("PUT", "/v1/sessions/x/rois/x", {"admin", "experimenter", "console"}),
    "subject's regions": ("GET", "/v1/subjects/x/rois", {"admin", "experimenter", "console", "viewer"}),
    "keep region": ("PUT", "/v1/subjects/x/rois/x", {"admin", "experimenter", "console"}),
    "drop region": ("DELETE", "/v1/subjects/x/rois/x", {"admin", "experimenter", "console"}),
    "view": ("GET", "/v1/views/" + "0" * 64, {"admin", "experimenter", "viewer"}),
    "volume view": ("GET", "/v1/sessions/x/runs/1/volumes/0/view", {"admin", "experimenter", "viewer"}),
    "beta view": ("GET", "/v1/sessions/x/runs/1/trials/1/beta", {"admin", "experimenter", "viewer"}),
    "voxel": ("GET", "/v1/sessions/x/runs/1/voxel", {"admin", "experimenter", "viewer"}),
    "post image": ("POST", "/v1/images", {"admin", "experimenter", "console"}),
    "image": ("GET", "/v1/images/" + "0" * 64, {"admin", "experimenter", "viewer"}),
    "ticket": ("POST", "/v1/ws-tickets", {"admin", "experimenter", "viewer", "participant"}),
    "feedback": ("GET", "/v1/sessions/x/feedback", {"admin", "experimenter", "console", "viewer"}),
    "feed back": ("PUT", "/v1/sessions/x/feedback", {"admin", "experimenter", "console"}),
    "keys": ("GET", "/v1/keys", {"admin"}),
    "metrics": ("GET", "/v1/metrics", {"admin", "experimenter", "viewer"}),
    "mint": ("POST", "/v1/keys", {"admin"}),
    "revoke": ("DELETE", "/v1/keys/x", {"admin"}),
}


def test_the_matrix_names_every_route(tmp_path: Path) -> None:
    named = {(method, path.replace("0" * 64, "0")) for method, path, _ in REQUESTS.values()}
    there = {
        (method, _filled(route.path))
        for route in _routes(Settings(data_dir=tmp_path))
        if isinstance(route, APIRoute) and route.path not in PUBLIC
        for method in route.methods or set()
    }
    assert {(method, path) for method, path in named} == there


def _filled(path: str) -> str:
    names = dict.fromkeys(("session", "subject", "id", "job", "name"), "x")
    names |= dict.fromkeys(("number", "run", "trial"), "1")
    for name, value in {**names, "index": "0", "digest": "0"}.items():
        path = path.replace("{" + name + "}", value)
    return path


@pytest.mark.parametrize("name", REQUESTS)
def test_who_may_do_what(running: Running, name: str) -> None:
    method, path, allowed = REQUESTS[name]
    for role in get_args(Role):
        with running.client(role) as client:
            answer = client.request(method, path)
        refused = answer.status_code == 403
        assert refused != (role in allowed), (role, answer.text)
        assert not refused or answer.json()["code"] == "auth.scope"
    for headers in ({}, {"Authorization": "Bearer ms_00000000_" + "x" * 43}, {"Authorization": "Basic eA=="}):
        with running.client(None) as client:
            answer = client.request(method, path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


STREAMS: dict[str, set[Role]] = {
    "/v1/sessions/x/stream": {"admin", "experimenter", "viewer"},
    "/v1/sessions/x/participant": {"admin", "experimenter", "participant"},
}


@pytest.mark.parametrize("path", STREAMS)
def test_who_may_open_which_stream(running: Running, path: str) -> None:
    url = f"ws{running.url.removeprefix('http')}{path}"
    for role in get_args(Role):
        with pytest.raises(InvalidStatus) as refused:  # there is no such session: 404 means that the role was let in
            connect(url, additional_headers={"Authorization": f"Bearer {running.keys[role]}"})
        allowed = role in STREAMS[path]
        assert refused.value.response.status_code == (404 if allowed else 403), role
    with pytest.raises(InvalidStatus) as refused:
        connect(url)
    assert refused.value.response.status_code == 401


def test_the_viewer_never_sees_the_truth() -> None:
    assert "truth:read" not in ROLES["viewer"]
    assert "truth:read" not in ROLES["console"]
    assert ROLES["viewer"] == {"events:read"}
    assert ROLES["participant"] == {"feedback:read"}


def test_keys_are_shown_once_and_kept_as_digests_only(tmp_path: Path) -> None:
    made = create_keys(tmp_path)
    assert set(made) == set(get_args(Role))
    assert create_keys(tmp_path) == {}
    kept = tmp_path / "keys.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert not any(key.split("_", 2)[2] in kept.read_text() or key in kept.read_text() for key in made.values())
    store = KeyStore(tmp_path)
    for role, key in made.items():
        assert store.check(key).role == role
        with pytest.raises(NotAllowed):
            store.check(key[:-1] + ("A" if key[-1] != "A" else "B"))
    assert {entry["role"] for entry in json.loads(kept.read_text())} == set(made)


@pytest.mark.parametrize("text", ["", "ms_", "ms_00000000_", "ms__", "x" * 10_000, "ms_00000000_" + "é" * 43])
def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotAllowed):
        KeyStore(tmp_path).check(text)


def test_a_ticket_is_good_once_and_not_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(tmp_path)
    key, _ = store.mint("viewer")
    ticket = store.ticket(key)
    assert store.redeem(ticket) == key
    with pytest.raises(NotAllowed):
        store.redeem(ticket)
    late = store.ticket(key)
    moment = keys_module.time.monotonic() + keys_module.TICKET_S + 1.0
    monkeypatch.setattr(keys_module.time, "monotonic", lambda: moment)
    with pytest.raises(NotAllowed):
        store.redeem(late)
    monkeypatch.undo()
    revoked = store.ticket(key)
    store.revoke(key.id)
    with pytest.raises(NotAllowed):
        store.redeem(revoked)
    with pytest.raises(NotFound):
        store.revoke(key.id)


def test_an_admin_mints_and_revokes_keys(running: Running, admin: httpx.Client) -> None:
    made = admin.post("/v1/keys", json={"role": "viewer"}).json()
    assert made["id"] in [key["id"] for key in admin.get("/v1/keys").json()]
    assert "sha256" not in admin.get("/v1/keys").text
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert httpx.get(f"{running.url}/v1/sessions", headers=headers).status_code == 200
    assert admin.delete(f"/v1/keys/{made['id']}").status_code == 204
    assert httpx.get(f"{running.url}/v1/sessions", headers=headers).status_code == 401
    assert admin.delete(f"/v1/keys/{made['id']}").json()["code"] == "key.unknown"
    assert admin.post("/v1/keys", json={"role": "root"}).status_code == 422
